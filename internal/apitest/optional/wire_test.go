package optional_test

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const schema = `
	create table users (id int primary key, email text not null, name text, age int not null, created_at timestamptz not null default now());
	insert into users (id, email, name, age) values (1, 'ada@example.com', 'Ada', 36), (2, 'bob@example.com', null, 17), (3, 'eve@example.org', 'Eve', 25)`

// A wire records the statements that were prepared on the connections of a pool.
type wire struct {
	mu    sync.Mutex
	texts []string
}

// take returns what was prepared since it was called last, less what the library asks for itself.
func (w *wire) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts := slices.DeleteFunc(w.texts, func(sql string) bool { return !strings.Contains(sql, "users") })
	w.texts = nil
	return texts
}

// A tap reads the messages that are written to a connection.
type tap struct {
	net.Conn
	wire  *wire
	left  []byte
	begun bool // the startup message, which has no type, was written
}

func (c *tap) Write(b []byte) (int, error) {
	c.left = append(c.left, b...)
	for {
		head := 1
		if !c.begun {
			head = 0
		}
		if len(c.left) < head+4 {
			break
		}
		size := head + int(binary.BigEndian.Uint32(c.left[head:]))
		if len(c.left) < size {
			break
		}
		if c.begun && c.left[0] == 'P' {
			parts := strings.SplitN(string(c.left[5:size]), "\x00", 3)
			c.wire.mu.Lock()
			c.wire.texts = append(c.wire.texts, parts[1])
			c.wire.mu.Unlock()
		}
		c.begun, c.left = true, c.left[size:]
	}
	return c.Conn.Write(b)
}

// connect makes a pool on a database of its own.
func connect(t testing.TB, cfg pgcmd.Config) (*pgcmd.Pool, *wire) {
	t.Helper()
	w := &wire{}
	cfg.URL = pgcmdtest.URL(t, schema)
	own := cfg.Pgx
	cfg.Pgx = func(c *pgxpool.Config) {
		if own != nil {
			own(c)
		}
		dial := c.ConnConfig.DialFunc
		c.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &tap{Conn: conn, wire: w}, nil
		}
	}
	pool, err := pgcmd.Connect(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close(context.Background())) })
	return pool, w
}

// tenant is a setting of the caller.
func tenant(context.Context) ([]pgcmd.Setting, error) {
	return []pgcmd.Setting{{Name: "app.tenant", Value: "1"}}, nil
}

func ptr[T any](v T) *T { return &v }

// refused is the *Error of err.
func refused(t testing.TB, err error, code pgcmd.Code, effect pgcmd.Effect, says ...string) *pgcmd.Error {
	t.Helper()
	var e *pgcmd.Error
	if !assert.ErrorAs(t, err, &e) {
		t.FailNow()
	}
	assert.Equal(t, code, e.Code, "%v", err)
	assert.Equal(t, effect, e.Effect, "%v", err)
	for _, part := range says {
		assert.ErrorContains(t, err, part)
	}
	return e
}

// panics returns the text that f panics with.
func panics(t testing.TB, f func()) (text string) {
	t.Helper()
	defer func() {
		text, _ = recover().(string)
		assert.NotEmpty(t, text, "it did not panic with a text")
	}()
	f()
	return ""
}
