package redact_test

import (
	"context"
	"reflect"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/redact"
)

type account struct {
	Name     string
	Password string `secret:"true"`
	Codes    []int  `secret:"true"`
	Raw      []byte `secret:"true"`
	pin      any    `secret:"true"`
	Next     *account
}

// A shared has a secret of its own, so that it is looked at in an unexported field too.
type shared struct {
	Any any
	Own string `secret:"true"`
}

type embedded struct{ Any any }

func TestTexts(t *testing.T) {
	t.Parallel()
	loop := &account{Name: "a", Password: "pw of the loop"}
	loop.Next = loop
	deep := &account{Password: "pw 0"}
	for range 100 {
		deep = &account{Next: deep}
	}
	both := &shared{Any: account{Password: "pw"}}
	for _, c := range []struct {
		name string
		in   any
		want []string
	}{
		{"kinds", account{Name: "a", Password: "pw", Codes: []int{7, 0, 8}, Raw: []byte("raw"), pin: 12}, []string{"pw", "7", "8", "raw", "12"}},
		{"in an interface", struct{ In any }{&account{Password: "pw"}}, []string{"pw"}},
		{"in a map", map[string]account{"k": {Password: "pw"}}, []string{"pw"}},
		{"in an unexported field", struct{ in *account }{&account{Password: "pw"}}, []string{"pw"}},
		{"in an interface of an embedded struct", struct{ embedded }{embedded{account{Password: "pw"}}}, []string{"pw"}},
		{"in an interface of an unexported field", struct{ in any }{account{Password: "pw"}}, nil},
		{"in an unexported field, and in an exported one after it", struct{ mine, Mine *shared }{both, both}, []string{"pw"}},
		{"in itself", loop, []string{"pw of the loop"}},
		{"deep", deep, []string{"pw 0"}},
		{"nil", nil, nil},
	} {
		assert.Equal(t, c.want, redact.Texts(reflect.ValueOf(c.in)), c.name)
	}
}

// A context in an unexported field changes while other goroutines derive contexts from it (go test -race).
func TestTextsLeaveAContextAlone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in := struct {
		account
		ctx context.Context
	}{account{Password: "pw"}, ctx}
	var deriving sync.WaitGroup
	defer deriving.Wait()
	deriving.Go(func() {
		for range 1000 {
			_, cancel := context.WithCancel(ctx)
			cancel()
		}
	})
	for range 1000 {
		require.Equal(t, []string{"pw"}, redact.Texts(reflect.ValueOf(in)))
	}
}
