// SPDX-License-Identifier: Apache-2.0

// Package quotes is what publisher and subscriber share: the message, the way to the sidecar, what they say.
package quotes

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	outrigger "example.org/quotes/gen/outriggerv1"
)

// Quote is one message. The bytes of a message are the app's own business; the example in Python has the same.
type Quote struct {
	// Publisher is the name of its pod.
	Publisher string `json:"publisher"`
	// Number counts the quotes of a publisher, from 0.
	Number uint64  `json:"number"`
	Symbol string  `json:"symbol"`
	Price  float64 `json:"price"`
	// Closing is true in the last quote of a symbol.
	Closing bool `json:"closing,omitempty"`
}

// Setting is a variable of the environment, or the value that it has without one.
func Setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// Connect reaches the sidecar in the same pod. Injection sets OUTRIGGER_ADDRESS.
func Connect() (*grpc.ClientConn, outrigger.MessagingServiceClient, error) {
	address := os.Getenv("OUTRIGGER_ADDRESS")
	if address == "" {
		return nil, nil, errors.New(`OUTRIGGER_ADDRESS is not set: has the pod the label outrigger.dev/inject: "true"?`)
	}
	// Without TLS: the socket never leaves the pod.
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, fmt.Errorf("sidecar at %s: %w", address, err)
	}
	return connection, outrigger.NewMessagingServiceClient(connection), nil
}

// Topic is the topic of TOPIC.
func Topic() *outrigger.Target {
	return &outrigger.Target{Target: &outrigger.Target_Topic{Topic: Setting("TOPIC", "quotes")}}
}

// Say writes an event with its figures as a line of JSON.
func Say(event string, figures map[string]any) {
	line := map[string]any{"event": event}
	for name, value := range figures {
		line[name] = value
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}
