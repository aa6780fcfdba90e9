// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// meter checks messages, from the first one on, and counts those of the window: the subscriber is there before the publisher. One goroutine at a time calls onMessage.
type meter struct {
	settings settings
	payload  *payload

	expected   uint64
	messages   int64
	bytes      int64
	lost       int64
	outOfOrder int64
	corrupt    int64

	first     time.Time
	begin     time.Time
	before    int64
	bytesFrom int64
	cpuBefore map[string]float64
	done      chan struct{}
	once      sync.Once
}

func newMeter(s settings) *meter {
	return &meter{settings: s, payload: newPayload(), done: make(chan struct{})}
}

func (m *meter) onMessage(message []byte) {
	if !m.payload.matches(message) {
		m.corrupt++
		return
	}
	sequence := sequenceOf(message)
	switch {
	case sequence < m.expected:
		m.outOfOrder++
		return
	case sequence > m.expected:
		m.lost += int64(sequence - m.expected)
	}
	m.expected = sequence + 1
	m.messages++
	m.bytes += int64(len(message))
}

// tick is called once a batch of messages: it opens and closes the window.
func (m *meter) tick() {
	now := time.Now()
	switch {
	case m.messages == 0:
	case m.first.IsZero():
		m.first = now
	case m.begin.IsZero():
		if now.Sub(m.first) >= m.settings.warmup {
			m.cpuBefore = readCPU(m.settings.cpu)
			m.before, m.bytesFrom = m.messages, m.bytes
			m.begin = time.Now()
		}
	case now.Sub(m.begin) >= m.settings.measure:
		m.once.Do(func() {
			m.report(now)
			close(m.done)
		})
	}
}

func (m *meter) report(end time.Time) {
	after := readCPU(m.settings.cpu)
	cpu := map[string]float64{}
	for name, seconds := range after {
		cpu[name] = seconds - m.cpuBefore[name]
	}
	say(map[string]any{
		"messages":   m.messages - m.before,
		"bytes":      m.bytes - m.bytesFrom,
		"seconds":    end.Sub(m.begin).Seconds(),
		"lost":       m.lost,
		"outOfOrder": m.outOfOrder,
		"corrupt":    m.corrupt,
		"total":      m.messages,
		"cpuSeconds": cpu,
	})
}

// awaitGo holds a publisher until its subscriber is there: the harness then writes a line.
func awaitGo() {
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		fail("standard input ended before the word to go")
	}
}

func say(line map[string]any) {
	text, err := json.Marshal(line)
	if err != nil {
		fail(err.Error())
	}
	fmt.Println(string(text))
}

// Clock ticks of /proc are 1/100 s on every Linux that runs this.
const ticksPerSecond = 100

// readCPU gives user and system seconds of the processes of a `name=pid,...` list; pid may be `self`.
func readCPU(list string) map[string]float64 {
	seconds := map[string]float64{}
	for _, entry := range strings.Split(list, ",") {
		name, pid, found := strings.Cut(entry, "=")
		if !found {
			continue
		}
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			fail("process " + pid + " is gone: its CPU time can't be read")
		}
		// proc(5): fields 14 and 15, counted after the name in parentheses.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
		user, _ := strconv.ParseFloat(fields[11], 64)
		system, _ := strconv.ParseFloat(fields[12], 64)
		seconds[name] += (user + system) / ticksPerSecond
	}
	return seconds
}
