// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "outrigger.dev/bench/gen/outrigger/v1"
)

const (
	// HTTP/2 windows: what the sidecar's documentation recommends for bulk.
	windowBytes     = 8 << 20
	maxMessageBytes = 16 << 20
	waitTimeoutMs   = 30_000
	creditBytes     = 256 << 20
	// Part of the credit that is used up before it is granted again.
	creditShare = 4
)

func dial(s settings) (*grpc.ClientConn, error) {
	return grpc.NewClient(s.address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(windowBytes),
		grpc.WithInitialConnWindowSize(windowBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)))
}

func topicTarget(s settings) *pb.Target {
	return &pb.Target{Target: &pb.Target_Topic{Topic: s.topic}}
}

// publishOutrigger keeps up to inFlight batches of `batch` messages on their way. Policy WAIT: the sidecar holds what the window has no room for.
func publishOutrigger(ctx context.Context, s settings) error {
	connection, err := dial(s)
	if err != nil {
		return err
	}
	defer connection.Close()
	stream, err := pb.NewMessagingServiceClient(connection).Publish(context.Background())
	if err != nil {
		return err
	}
	open := &pb.PublishOpen{
		Target:        topicTarget(s),
		BackPressure:  pb.BackPressurePolicy_BACK_PRESSURE_POLICY_WAIT,
		WaitTimeoutMs: waitTimeoutMs,
		Exclusive:     true,
	}
	if err := stream.Send(&pb.PublishRequest{Request: &pb.PublishRequest_Open{Open: open}}); err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetOpened() == nil {
		return fmt.Errorf("the first answer is %v and not opened", first)
	}
	say(map[string]any{"event": "ready"})
	awaitGo()

	slots := make(chan struct{}, s.inFlight)
	failure := make(chan error, 1)
	finished := make(chan struct{})
	connected := make(chan struct{})
	var accepted uint64
	go func() {
		isConnected := false
		defer close(finished)
		for {
			response, err := stream.Recv()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					failure <- err
				}
				return
			}
			if response.GetEvent().GetConnected() && !isConnected {
				isConnected = true
				close(connected)
			}
			result := response.GetResult()
			if result == nil {
				continue
			}
			accepted += uint64(result.Accepted)
			if result.Status != pb.PublishStatus_PUBLISH_STATUS_ACCEPTED && ctx.Err() == nil {
				failure <- fmt.Errorf("batch %d: %v after %d messages", result.Sequence, result.Status, result.Accepted)
				return
			}
			<-slots
		}
	}()

	select {
	case <-connected:
	case err := <-failure:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	p := newPayload()
	// Send encodes before it returns, so the same memory serves for every batch, as NATS's Publish lets its caller do too.
	block := make([]byte, s.size*s.batch)
	messages := make([][]byte, s.batch)
	for i := range messages {
		messages[i] = block[i*s.size : (i+1)*s.size]
	}
	var sequence, batches uint64
	for ctx.Err() == nil {
		select {
		case slots <- struct{}{}:
		case err := <-failure:
			return err
		case <-ctx.Done():
			continue
		}
		for _, message := range messages {
			p.fill(message, sequence)
			sequence++
		}
		batch := &pb.PublishBatch{Sequence: batches, Messages: messages}
		batches++
		if err := stream.Send(&pb.PublishRequest{Request: &pb.PublishRequest_Batch{Batch: batch}}); err != nil {
			select {
			case cause := <-failure:
				return cause
			default:
				return err
			}
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	<-finished
	say(map[string]any{"sent": sequence, "accepted": accepted})
	return nil
}

func subscribeOutrigger(ctx context.Context, s settings) error {
	connection, err := dial(s)
	if err != nil {
		return err
	}
	defer connection.Close()
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewMessagingServiceClient(connection).Subscribe(streamCtx)
	if err != nil {
		return err
	}
	open := &pb.SubscribeOpen{
		Target:        topicTarget(s),
		InitialCredit: &pb.Credit{Messages: uint32(s.credit), Bytes: creditBytes},
	}
	if err := stream.Send(&pb.SubscribeRequest{Request: &pb.SubscribeRequest_Open{Open: open}}); err != nil {
		return err
	}
	m := newMeter(s)
	var usedMessages int
	var usedBytes uint64
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		switch {
		case response.GetOpened() != nil:
			say(map[string]any{"event": "ready"})
			continue
		case response.GetEvent().GetGap() != nil:
			return fmt.Errorf("gap: %v", response.GetEvent().GetGap())
		case response.GetBatch() == nil:
			continue
		}
		messages := response.GetBatch().Messages
		for _, message := range messages {
			m.onMessage(message)
			usedBytes += uint64(len(message))
		}
		usedMessages += len(messages)
		m.tick()
		select {
		case <-m.done:
			return nil
		default:
		}
		if usedMessages >= s.credit/creditShare || usedBytes >= creditBytes/creditShare {
			grant := &pb.Credit{Messages: uint32(usedMessages), Bytes: usedBytes}
			usedMessages, usedBytes = 0, 0
			if err := stream.Send(&pb.SubscribeRequest{Request: &pb.SubscribeRequest_Credit{Credit: grant}}); err != nil {
				return err
			}
		}
	}
}
