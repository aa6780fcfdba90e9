// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"math/rand"
)

// A message: sequence, length, a body that follows from the sequence, and a closing word of both. Every message's head and closing word are
// checked, the whole body of one in bodyCheckInterval, as the engine's benchmark programs do.
const (
	minSize           = 32
	maxSize           = 64 * 1024
	headSize          = 16
	tailSize          = 8
	rotations         = 512
	bodyCheckInterval = 16
)

type payload struct {
	pattern []byte
}

func newPayload() *payload {
	p := &payload{pattern: make([]byte, maxSize+rotations*8)}
	rand.New(rand.NewSource(1)).Read(p.pattern)
	return p
}

func (p *payload) body(sequence uint64, size int) []byte {
	at := int(sequence%rotations) * 8
	return p.pattern[at : at+size-headSize-tailSize]
}

func closing(sequence uint64, size int) uint64 {
	return sequence*0x9E3779B97F4A7C15 ^ uint64(size)
}

func (p *payload) fill(message []byte, sequence uint64) {
	size := len(message)
	binary.LittleEndian.PutUint64(message, sequence)
	binary.LittleEndian.PutUint64(message[8:], uint64(size))
	copy(message[headSize:], p.body(sequence, size))
	binary.LittleEndian.PutUint64(message[size-tailSize:], closing(sequence, size))
}

func sequenceOf(message []byte) uint64 {
	return binary.LittleEndian.Uint64(message)
}

func (p *payload) matches(message []byte) bool {
	size := len(message)
	if size < minSize || size > maxSize || binary.LittleEndian.Uint64(message[8:]) != uint64(size) {
		return false
	}
	sequence := sequenceOf(message)
	if binary.LittleEndian.Uint64(message[size-tailSize:]) != closing(sequence, size) {
		return false
	}
	return sequence%bodyCheckInterval != 0 || bytes.Equal(message[headSize:size-tailSize], p.body(sequence, size))
}
