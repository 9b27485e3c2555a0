package canned

import (
	"bytes"
	"encoding/binary"
)

// A message is the unread rest of one from the client. It is not checked: to read past its end panics.
type message []byte

func (m *message) next(n int) []byte {
	b := (*m)[:n]
	*m = (*m)[n:]
	return b
}

func (m *message) int16() int { return int(int16(binary.BigEndian.Uint16(m.next(2)))) }

func (m *message) int32() int { return int(int32(binary.BigEndian.Uint32(m.next(4)))) }

// text reads up to a zero byte.
func (m *message) text() []byte {
	b := m.next(bytes.IndexByte(*m, 0) + 1)
	return b[:len(b)-1]
}

// The messages that are always the same.
const (
	parseComplete      = "1\x00\x00\x00\x04"
	bindComplete       = "2\x00\x00\x00\x04"
	closeComplete      = "3\x00\x00\x00\x04"
	noData             = "n\x00\x00\x00\x04"
	emptyQueryResponse = "I\x00\x00\x00\x04"
)

// The states of a session, each as the ReadyForQuery that announces it. A session not yet started has none.
const (
	idle          = "Z\x00\x00\x00\x05I"
	inTransaction = "Z\x00\x00\x00\x05T"
	failed        = "Z\x00\x00\x00\x05E"
)
