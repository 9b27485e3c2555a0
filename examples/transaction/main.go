// Transaction shows what a transaction of pgcmd tells, on a PostgreSQL that it
// starts for itself: retries under contention, a step that may fail alone, an
// error that a body swallows, and a COMMIT whose reply is lost, with Once and
// without.
//
//	go run ./examples/transaction
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const schema = `
	create table accounts (id int primary key, balance int not null constraint enough check (balance >= 0));
	insert into accounts select n, 100 from generate_series(1, 4) n;
	create table audit (note text not null)`

type Transfer struct {
	Key      string // chosen by the caller, the same when it asks again
	From, To int
	Amount   int `validate:"gt=0"`
}

var ErrFunds = errors.New("insufficient funds")

var (
	debit  = pgcmd.Exec[Transfer]("accounts.debit", `update accounts set balance = balance - @amount where id = @from`)
	credit = pgcmd.Exec[Transfer]("accounts.credit", `update accounts set balance = balance + @amount where id = @to`)
	note   = pgcmd.Exec[string]("audit.note", `insert into audit values ($1)`)
)

// transfer moves money. It may run more than once, so it does nothing outside of tx
// but by AfterCommit.
var transfer = pgcmd.Transaction("bank.transfer", func(ctx context.Context, tx *pgcmd.Tx, in Transfer) (int, error) {
	if _, err := debit.Run(ctx, tx, in); err != nil {
		return 0, err
	}
	if _, err := credit.Run(ctx, tx, in); err != nil {
		return 0, err
	}
	// A step that may fail alone: what it did is rolled back to a savepoint.
	_ = pgcmd.Try(ctx, tx, note, strings.Repeat("\x00", in.From%2)).Err
	tx.AfterCommit(func(context.Context) { sent.Add(1) })
	return in.Amount, nil
}).With(pgcmd.Options{
	Tx:           pgx.TxOptions{IsoLevel: pgx.Serializable},
	Retry:        pgcmd.Retry{Attempts: 20},
	OnConstraint: map[string]error{"enough": ErrFunds},
})

// transferOnce is transfer with its key and its result in the same transaction.
var transferOnce = pgcmd.Once(transfer, func(in Transfer) string { return in.Key })

var sent atomic.Int64 // what AfterCommit stands for: a message to a customer

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "transaction:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	sent.Store(0)
	server, err := pgcmdtest.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	url, err := server.Database(ctx, schema, pgcmd.OnceSchema)
	if err != nil {
		return err
	}
	var network lossy
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 8, Pgx: func(c *pgxpool.Config) {
		network.dial, c.ConnConfig.DialFunc = c.ConnConfig.DialFunc, network.Dial
	}})
	if err != nil {
		return err
	}
	defer pool.Close(ctx)

	attempts, err := contend(ctx, pool)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "64 serializable transfers by 8 goroutines: all applied, %d attempts, %d messages sent\n", attempts, sent.Load())

	_, err = transfer.Run(ctx, pool, Transfer{From: 1, To: 2, Amount: 1_000_000})
	fmt.Fprintf(out, "too much: errors.Is(err, ErrFunds) = %v\n  %v\n", errors.Is(err, ErrFunds), err)

	_, err = swallow.Run(ctx, pool, Transfer{From: 1, To: 2, Amount: 1_000_000})
	fmt.Fprintf(out, "a body that swallows the error that aborted its transaction:\n  %v\n", err)

	network.loseCommit.Store(true)
	_, err = transfer.Run(ctx, pool, Transfer{From: 1, To: 2, Amount: 1})
	fmt.Fprintf(out, "the reply to COMMIT is lost:\n  %v\n", err)

	network.loseCommit.Store(true)
	o := pgcmd.Try(ctx, pool, transferOnce, Transfer{Key: "order-7", From: 1, To: 2, Amount: 1})
	fmt.Fprintf(out, "the same with Once: ok = %v after %d attempts, replayed = %v\n", o.OK(), o.Attempts, o.Replayed)
	o = pgcmd.Try(ctx, pool, transferOnce, Transfer{Key: "order-7", From: 1, To: 2, Amount: 1})
	fmt.Fprintf(out, "and asked again: ok = %v, replayed = %v\n", o.OK(), o.Replayed)

	var sum int
	if err := pool.QueryRow(ctx, `select sum(balance) from accounts`).Scan(&sum); err != nil {
		return err
	}
	fmt.Fprintf(out, "money in the bank: %d, as at the start\n", sum)
	return nil
}

// swallow goes on after an error, and would have its transaction committed.
var swallow = pgcmd.Transaction("bank.careless", func(ctx context.Context, tx *pgcmd.Tx, in Transfer) (int, error) {
	_, _ = credit.Run(ctx, tx, in)
	_, _ = debit.Run(ctx, tx, in)
	return in.Amount, nil
})

// contend moves money in a ring, so that neighbours get into each other's way.
func contend(ctx context.Context, pool *pgcmd.Pool) (attempts int64, err error) {
	var total atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 8 {
				from := (worker + i) % 4
				o := pgcmd.Try(ctx, pool, transfer, Transfer{From: from + 1, To: (from+1)%4 + 1, Amount: 1})
				total.Add(int64(o.Attempts))
				if o.Err != nil {
					failed.Store(&o.Err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return total.Load(), nil
}

// A lossy network lets the next COMMIT through to the server, and its reply nowhere.
type lossy struct {
	dial       pgconn.DialFunc
	loseCommit atomic.Bool
}

func (l *lossy) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := l.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &lossyConn{socket: conn.(socket), network: l}, nil
}

// A socket is a net.Conn whose state pgcmd can look at before it uses the connection.
type socket interface {
	net.Conn
	syscall.Conn
}

type lossyConn struct {
	socket
	network *lossy
	cut     atomic.Bool
}

func (c *lossyConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("commit\x00")) && c.network.loseCommit.CompareAndSwap(true, false) {
		c.cut.Store(true)
	}
	return c.socket.Write(b)
}

func (c *lossyConn) Read(b []byte) (int, error) {
	n, err := c.socket.Read(b)
	if err == nil && c.cut.Load() { // the server has committed, and says so
		_ = c.socket.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}
