// SPDX-License-Identifier: Apache-2.0

// Command publisher publishes quotes until it is told to stop, then the closing quote of every symbol, and says how many were accepted.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	quotes "example.org/quotes"
	outrigger "example.org/quotes/gen/outriggerv1"
)

const (
	ticksPerSecond = 100
	symbolCount    = 200
	// How long the sidecar keeps trying before it says that it could not; then we decide anew.
	waitMs = 1000
)

type publisher struct {
	name     string
	stream   outrigger.MessagingService_PublishClient
	prices   [symbolCount]float64
	number   uint64
	sequence uint64
	accepted uint64
}

func open(client outrigger.MessagingServiceClient) (*publisher, error) {
	// Not the context that ends with the signal: what is under way then still leaves.
	stream, err := client.Publish(context.Background())
	if err != nil {
		return nil, err
	}
	request := &outrigger.PublishOpen{
		Target:        quotes.Topic(),
		BackPressure:  outrigger.BackPressurePolicy_BACK_PRESSURE_POLICY_WAIT,
		WaitTimeoutMs: waitMs,
		Exclusive:     true, // a session of its own, so that subscribers see when this publisher comes and goes
	}
	if err := stream.Send(&outrigger.PublishRequest{Request: &outrigger.PublishRequest_Open{Open: request}}); err != nil {
		return nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	quotes.Say("open", map[string]any{"publisher": hostname, "maxMessageBytes": answer.GetOpened().GetMaxMessageBytes()})
	made := &publisher{name: hostname, stream: stream}
	for i := range made.prices {
		made.prices[i] = 50 + 100*rand.Float64()
	}
	return made, nil
}

func (p *publisher) quote(symbol int, closing bool) []byte {
	p.prices[symbol] += rand.Float64() - 0.5
	message, err := json.Marshal(quotes.Quote{
		Publisher: p.name, Number: p.number, Symbol: fmt.Sprintf("S%03d", symbol), Price: p.prices[symbol], Closing: closing,
	})
	if err != nil {
		panic(err)
	}
	p.number++
	return message
}

// publish offers a batch until all of it is accepted: the result says how many leading messages were, and why the rest was not. When the app is
// to stop and nobody listens, the rest has no one to go to.
func (p *publisher) publish(stop context.Context, messages [][]byte) error {
	for len(messages) > 0 {
		p.sequence++
		batch := &outrigger.PublishBatch{Sequence: p.sequence, Messages: messages}
		if err := p.stream.Send(&outrigger.PublishRequest{Request: &outrigger.PublishRequest_Batch{Batch: batch}}); err != nil && !errors.Is(err, io.EOF) {
			return err
		} // io.EOF: why the stream is over is what Recv says
		result, err := p.result()
		if err != nil {
			return err
		}
		p.accepted += uint64(result.GetAccepted())
		messages = messages[result.GetAccepted():]
		switch result.GetStatus() {
		case outrigger.PublishStatus_PUBLISH_STATUS_ACCEPTED, outrigger.PublishStatus_PUBLISH_STATUS_BACK_PRESSURED:
		case outrigger.PublishStatus_PUBLISH_STATUS_NOT_CONNECTED:
			if stop.Err() != nil {
				return nil
			}
		default:
			return fmt.Errorf("batch %d: %v", p.sequence, result.GetStatus())
		}
	}
	return nil
}

// result is the answer to the one batch that is under way; events come between.
func (p *publisher) result() (*outrigger.PublishResult, error) {
	for {
		answer, err := p.stream.Recv()
		if err != nil {
			return nil, err
		}
		if result := answer.GetResult(); result != nil {
			return result, nil
		}
	}
}

// close half-closes: the sidecar sends what it has, then ends the stream.
func (p *publisher) close() error {
	if err := p.stream.CloseSend(); err != nil {
		return err
	}
	for {
		if _, err := p.stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func run() error {
	rate, err := strconv.Atoi(quotes.Setting("RATE", "1000"))
	if err != nil || rate < ticksPerSecond {
		return fmt.Errorf("RATE=%s: quotes a second, %d or more", os.Getenv("RATE"), ticksPerSecond)
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	connection, client, err := quotes.Connect()
	if err != nil {
		return err
	}
	defer connection.Close()
	p, err := open(client)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(time.Second / ticksPerSecond)
	defer ticker.Stop()
	for stop.Err() == nil {
		messages := make([][]byte, rate/ticksPerSecond)
		for i := range messages {
			messages[i] = p.quote(rand.IntN(symbolCount), false)
		}
		if err := p.publish(stop, messages); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-stop.Done():
		}
	}
	// The sidecar ends after the apps of its pod and sends what it has until then, so there is time for last words.
	for symbol := range p.prices {
		if err := p.publish(stop, [][]byte{p.quote(symbol, true)}); err != nil {
			return err
		}
	}
	if err := p.close(); err != nil {
		return err
	}
	quotes.Say("done", map[string]any{"publisher": p.name, "accepted": p.accepted, "closing": symbolCount})
	return nil
}

// An error ends the app: the kubelet starts it again, and it opens a new session.
func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "publisher:", err)
		os.Exit(1)
	}
}
