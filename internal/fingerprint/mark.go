package fingerprint

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"reflect"
	"sync"
)

// A Mark is the fingerprint of a value in the form in which it is stored.
type Mark struct {
	Bytes []byte
	first func() []byte // the one of the first version
}

// version is the first byte of a Mark. Those of the first version had none, and were 32 bytes
// long: the hash of the value's JSON.
const version = 2

// Mark returns the mark of the value that pointer points to. changes says that the value changes
// before [Mark.Equals] is called. An error is an *[Error].
func (p *Plan) Mark(pointer any, changes bool) (*Mark, error) {
	sum, err := p.Sum(pointer)
	if err != nil {
		return nil, err
	}
	m := &Mark{append([]byte{version}, sum[:]...), sync.OnceValue(func() []byte {
		text, err := json.Marshal(reflect.ValueOf(pointer).Elem().Interface())
		if err != nil {
			return nil
		}
		sum := sha256.Sum256(text)
		return sum[:]
	})}
	if changes {
		m.first()
	}
	return m, nil
}

// Equals reports whether the mark that is stored, of any version, is of an equal value.
func (m *Mark) Equals(stored []byte) bool {
	if len(stored) == sha256.Size {
		return bytes.Equal(stored, m.first())
	}
	return bytes.Equal(stored, m.Bytes)
}
