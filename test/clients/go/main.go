// SPDX-License-Identifier: Apache-2.0

// A publisher and a subscriber over gRPC, as any Go program would write them. Commands, messages and output are those of python/client.py.
// The package outriggerv1 is generated from proto/ into gen/ when the tests build this.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	outriggerv1 "outrigger.dev/gen/outrigger/v1"
)

const (
	windowBatches  = 32
	creditMessages = 4096
	creditBytes    = 4 << 20
	headerBytes    = 16
	checkedFrom    = 12
)

type fields map[string]any

func say(event string, more fields) {
	more["event"] = event
	line, err := json.Marshal(more)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func message(seed uint32, sequence uint64) []byte {
	mixed := uint32(sequence)*2654435761 + seed
	length := mixed % 600
	if mixed%64 == 0 {
		// Longer than a datagram carries: it travels in fragments.
		length = mixed % 12000
	}
	data := make([]byte, headerBytes+4*(length/4))
	binary.LittleEndian.PutUint64(data, sequence)
	binary.LittleEndian.PutUint32(data[12:], seed)
	for at := headerBytes; at < len(data); at += 4 {
		binary.LittleEndian.PutUint32(data[at:], mixed)
	}
	binary.LittleEndian.PutUint32(data[8:], crc32.ChecksumIEEE(data[checkedFrom:]))
	return data
}

func topicTarget(topic string) *outriggerv1.Target {
	return &outriggerv1.Target{Target: &outriggerv1.Target_Topic{Topic: topic}}
}

func openRequest(topic string) *outriggerv1.PublishRequest {
	return &outriggerv1.PublishRequest{Request: &outriggerv1.PublishRequest_Open{Open: &outriggerv1.PublishOpen{
		Target:        topicTarget(topic),
		BackPressure:  outriggerv1.BackPressurePolicy_BACK_PRESSURE_POLICY_WAIT,
		WaitTimeoutMs: 30000,
	}}}
}

func publish(ctx context.Context, client outriggerv1.MessagingServiceClient, topic string, count uint64, seed uint32, batch uint64) error {
	stream, err := client.Publish(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(openRequest(topic)); err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	opened := first.GetOpened()
	say("opened", fields{"session": opened.GetSessionId(), "maxMessageBytes": opened.GetMaxMessageBytes()})
	var sent, accepted, answered, batches uint64
	for accepted < count {
		for sent < count && batches-answered < windowBatches {
			request := &outriggerv1.PublishBatch{Sequence: batches}
			for ; sent < count && uint64(len(request.Messages)) < batch; sent++ {
				request.Messages = append(request.Messages, message(seed, sent))
			}
			if err := stream.Send(&outriggerv1.PublishRequest{Request: &outriggerv1.PublishRequest_Batch{Batch: request}}); err != nil {
				return err
			}
			batches++
		}
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		result := answer.GetResult()
		if result == nil {
			continue
		}
		if result.GetSequence() != answered || result.GetStatus() != outriggerv1.PublishStatus_PUBLISH_STATUS_ACCEPTED {
			return fmt.Errorf("batch %d: %v", answered, result)
		}
		answered++
		accepted += uint64(result.GetAccepted())
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if answer.GetResult() != nil {
			return fmt.Errorf("an answer too many: %v", answer)
		}
	}
	say("done", fields{"accepted": accepted, "batches": batches})
	return nil
}

func eventName(event *outriggerv1.SubscribeEvent) string {
	switch event.GetEvent().(type) {
	case *outriggerv1.SubscribeEvent_ImageAvailable:
		return "image_available"
	case *outriggerv1.SubscribeEvent_ImageUnavailable:
		return "image_unavailable"
	case *outriggerv1.SubscribeEvent_Gap:
		return "gap"
	default:
		return "lagging_ms"
	}
}

func subscribe(ctx context.Context, client outriggerv1.MessagingServiceClient, topic string, count uint64) error {
	stream, err := client.Subscribe(ctx)
	if err != nil {
		return err
	}
	open := &outriggerv1.SubscribeOpen{
		Target:        topicTarget(topic),
		SlowPolicy:    outriggerv1.SlowSubscriberPolicy_SLOW_SUBSCRIBER_POLICY_BLOCK,
		InitialCredit: &outriggerv1.Credit{Messages: creditMessages, Bytes: creditBytes},
	}
	if err := stream.Send(&outriggerv1.SubscribeRequest{Request: &outriggerv1.SubscribeRequest_Open{Open: open}}); err != nil {
		return err
	}
	var received, outOfOrder, corrupt, gaps uint64
	expected := map[uint32]uint64{}
	owed := &outriggerv1.Credit{}
	for received < count {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if opened := answer.GetOpened(); opened != nil {
			say("opened", fields{"stream": opened.GetStreamId()})
			continue
		}
		if event := answer.GetEvent(); event != nil {
			name := eventName(event)
			if name == "gap" {
				gaps++
			}
			say(name, fields{})
			continue
		}
		batch := answer.GetBatch()
		for _, data := range batch.GetMessages() {
			sequence := binary.LittleEndian.Uint64(data)
			seed := binary.LittleEndian.Uint32(data[12:])
			if sequence != expected[seed] {
				outOfOrder++
			}
			if crc32.ChecksumIEEE(data[checkedFrom:]) != binary.LittleEndian.Uint32(data[8:]) {
				corrupt++
			}
			expected[seed] = sequence + 1
			owed.Bytes += uint64(len(data))
			owed.Messages++
			received++
		}
		if owed.Messages > creditMessages/2 || owed.Bytes > creditBytes/2 {
			if err := stream.Send(&outriggerv1.SubscribeRequest{Request: &outriggerv1.SubscribeRequest_Credit{Credit: owed}}); err != nil {
				return err
			}
			owed = &outriggerv1.Credit{}
		}
	}
	say("done", fields{"received": received, "outOfOrder": outOfOrder, "corrupt": corrupt, "gaps": gaps, "publishers": len(expected)})
	return nil
}

func refused(ctx context.Context, client outriggerv1.MessagingServiceClient, topic string) error {
	stream, err := client.Publish(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(openRequest(topic)); err != nil {
		return err
	}
	_, err = stream.Recv()
	if err == nil {
		return errors.New("was accepted")
	}
	answer := fields{"code": status.Code(err).String(), "message": status.Convert(err).Message()}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			answer["reason"], answer["domain"], answer["metadata"] = info.GetReason(), info.GetDomain(), info.GetMetadata()
		}
	}
	say("refused", answer)
	return nil
}

func run() error {
	if len(os.Args) < 2 {
		return errors.New("usage: publish|subscribe|refused --target T --topic NAME ...")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	target := flags.String("target", "", "unix:PATH or host:port")
	topic := flags.String("topic", "", "name of the topic")
	count := flags.Uint64("count", 0, "messages")
	seed := flags.Uint("seed", 1, "decides the lengths")
	batch := flags.Uint64("batch", 50, "messages a batch")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}
	connection, err := grpc.NewClient(*target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := outriggerv1.NewMessagingServiceClient(connection)
	switch os.Args[1] {
	case "publish":
		return publish(ctx, client, *topic, *count, uint32(*seed), *batch)
	case "subscribe":
		return subscribe(ctx, client, *topic, *count)
	case "refused":
		return refused(ctx, client, *topic)
	default:
		return fmt.Errorf("unknown command %q", os.Args[1])
	}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}
