package messages_test

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"math"
)

var nan = math.NaN()

type (
	valuing  struct{ n int }
	valued   struct{ n int }
	texting  struct{ n int }
	jsoning  struct{ n int }
	jsoned   struct{ n int }
	jsonings struct{ V json.Marshaler }
)

func (valuing) Value() (driver.Value, error)  { return nil, errors.New("a value") }
func (v valued) Value() (driver.Value, error) { return v, nil }
func (texting) MarshalText() ([]byte, error)  { return nil, errors.New("a value") }
func (jsoning) MarshalJSON() ([]byte, error)  { return nil, errors.New("a value") }
func (jsoned) MarshalJSON() ([]byte, error)   { return []byte("{"), nil }
