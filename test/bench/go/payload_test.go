// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestEveryKindOfDamageIsFound(t *testing.T) {
	p := newPayload()
	for _, size := range []int{minSize, 288, 1344} {
		message := make([]byte, size)
		p.fill(message, bodyCheckInterval)
		if !p.matches(message) {
			t.Fatalf("%d bytes: a good message is refused", size)
		}
		for at := range message {
			message[at] ^= 0x40
			// A damaged sequence is another message's: its closing word then differs.
			if p.matches(message) {
				t.Errorf("%d bytes: damage at byte %d is not found", size, at)
			}
			message[at] ^= 0x40
		}
		if p.matches(message[:size-1]) {
			t.Errorf("%d bytes: a cut message is accepted", size)
		}
	}
}

func TestMeterTellsLossFromDisorder(t *testing.T) {
	m := newMeter(settings{})
	m.expected = 5
	message := make([]byte, 64)
	for _, sequence := range []uint64{5, 6, 9, 7, 10} {
		m.payload.fill(message, sequence)
		m.onMessage(message)
	}
	message[20] ^= 1
	m.payload.fill(message, 16)
	message[63] ^= 1
	m.onMessage(message)
	if m.lost != 2 || m.outOfOrder != 1 || m.corrupt != 1 || m.messages != 4 {
		t.Fatalf("lost %d, out of order %d, corrupt %d, messages %d", m.lost, m.outOfOrder, m.corrupt, m.messages)
	}
}
