// SPDX-License-Identifier: Apache-2.0

// Command subscriber counts the quotes of every publisher and says what it has, every thousand quotes and when a publisher comes or goes, until
// it is told to stop.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"

	quotes "example.org/quotes"
	outrigger "example.org/quotes/gen/outriggerv1"
)

const (
	// What may be on its way to us. Half of it is granted again when we have taken as much.
	creditMessages = 4096
	creditBytes    = 4 << 20
	reportEvery    = 1000
)

// session is one publisher as long as it stays: what came of its quotes.
type session struct {
	publisher string
	first     uint64
	next      uint64
	messages  uint64
	closing   uint64
	// Numbers that did not come, or came twice or late: none, without a gap event.
	missing    uint64
	outOfOrder uint64
}

func (s *session) take(quote quotes.Quote) {
	if s.messages == 0 {
		s.publisher, s.first, s.next = quote.Publisher, quote.Number, quote.Number
	}
	switch {
	case quote.Number > s.next:
		s.missing += quote.Number - s.next
	case quote.Number < s.next:
		s.outOfOrder++
	}
	s.next = max(s.next, quote.Number+1)
	s.messages++
	if quote.Closing {
		s.closing++
	}
}

func (s *session) say(event string, more map[string]any) {
	figures := map[string]any{
		"publisher": s.publisher, "first": s.first, "messages": s.messages, "closing": s.closing, "missing": s.missing, "outOfOrder": s.outOfOrder,
	}
	maps.Copy(figures, more)
	quotes.Say(event, figures)
}

type subscriber struct {
	stream   outrigger.MessagingService_SubscribeClient
	sessions map[int32]*session
	owed     outrigger.Credit
}

func open(ctx context.Context, client outrigger.MessagingServiceClient) (*subscriber, error) {
	stream, err := client.Subscribe(ctx)
	if err != nil {
		return nil, err
	}
	request := &outrigger.SubscribeOpen{
		Target:        quotes.Topic(),
		SlowPolicy:    outrigger.SlowSubscriberPolicy_SLOW_SUBSCRIBER_POLICY_BLOCK, // every quote counts: the publisher waits for us
		InitialCredit: &outrigger.Credit{Messages: creditMessages, Bytes: creditBytes},
	}
	if err := stream.Send(&outrigger.SubscribeRequest{Request: &outrigger.SubscribeRequest_Open{Open: request}}); err != nil {
		return nil, err
	}
	return &subscriber{stream: stream, sessions: map[int32]*session{}}, nil
}

func (s *subscriber) of(id int32) *session {
	found := s.sessions[id]
	if found == nil {
		found = &session{}
		s.sessions[id] = found
	}
	return found
}

func (s *subscriber) batch(batch *outrigger.MessageBatch) error {
	from := s.of(batch.GetSessionId())
	for _, message := range batch.GetMessages() {
		var quote quotes.Quote
		if err := json.Unmarshal(message, &quote); err != nil {
			return fmt.Errorf("message %q: %w", message, err)
		}
		from.take(quote)
		if from.messages%reportEvery == 0 {
			from.say("received", nil)
		}
		s.owed.Messages++
		s.owed.Bytes += uint64(len(message))
	}
	if s.owed.Messages < creditMessages/2 && s.owed.Bytes < creditBytes/2 {
		return nil
	}
	credit := &outrigger.Credit{Messages: s.owed.Messages, Bytes: s.owed.Bytes}
	s.owed.Messages, s.owed.Bytes = 0, 0
	return s.stream.Send(&outrigger.SubscribeRequest{Request: &outrigger.SubscribeRequest_Credit{Credit: credit}})
}

func (s *subscriber) event(event *outrigger.SubscribeEvent) {
	switch {
	case event.GetImageAvailable() != nil:
		quotes.Say("publisher came", map[string]any{"source": event.GetImageAvailable().GetSource()})
	case event.GetImageUnavailable() != nil:
		gone := event.GetImageUnavailable()
		s.of(gone.GetSessionId()).say("publisher gone", map[string]any{"reason": gone.GetReason().String()})
		delete(s.sessions, gone.GetSessionId())
	case event.GetGap() != nil: // nothing is missing without one
		gap := event.GetGap()
		s.of(gap.GetSessionId()).say("gap", map[string]any{"reason": gap.GetReason().String()})
	}
}

func run() error {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	connection, client, err := quotes.Connect()
	if err != nil {
		return err
	}
	defer connection.Close()
	s, err := open(stop, client)
	if err != nil {
		return err
	}
	for {
		answer, err := s.stream.Recv()
		if stop.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		switch {
		case answer.GetOpened() != nil:
			quotes.Say("open", map[string]any{"stream": answer.GetOpened().GetStreamId()})
		case answer.GetBatch() != nil:
			if err := s.batch(answer.GetBatch()); err != nil {
				return err
			}
		case answer.GetEvent() != nil:
			s.event(answer.GetEvent())
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) {
		s.sessions[id].say("done", nil)
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "subscriber:", err)
		os.Exit(1)
	}
}
