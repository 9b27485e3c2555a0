package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
)

const (
	nameHelpers = "pgx's helpers"
	nameNamed   = "NamedArgs"
	nameStruct  = "StructArgs"
	nameDirect  = "a call of the body"
	nameTry     = "by Try"

	nameErrorType = "an error type by hand, with MarshalJSON"

	workNew     = "a command that does nothing"
	workRefused = "an input refused for three reasons"
	workJSON    = "an error to JSON"
)

// clientTurn is how many times as long the turns are where the CPU's time is measured: so long that they hold the
// collection of their garbage.
const clientTurn = 20

// clientWork measures the works on one connection to the in-process server, where only client work counts, by the time
// of the CPU.
func clientWork(ctx context.Context, r *results, p pace) error {
	for _, w := range workload.All {
		conn, err := pgx.ConnectConfig(ctx, workload.Canned(w).ConnConfig())
		if err != nil {
			return err
		}
		hand := workload.Hand{DB: conn}
		sides := []measure.Side{w.Side(ctx, ours, workload.Commands{DB: conn}), w.Side(ctx, byHand, hand)}
		switch w.Name {
		case workload.One.Name, workload.Simple.Name, workload.Many.Name, workload.Complex.Name:
			sides = append(sides, w.Side(ctx, nameHelpers, workload.Helpers{Hand: hand}))
		case workload.Named.Name:
			sides = append(sides, w.Side(ctx, nameNamed, workload.Helpers{Hand: hand}),
				w.Side(ctx, nameStruct, workload.StructArgs{Helpers: workload.Helpers{Hand: hand}}))
		}
		t, err := compare(w.Name, sides, clientTurn*w.Size, p, measure.CPU)
		if err != nil {
			return err
		}
		r.client = append(r.client, t)
		conn.Close(ctx)
	}
	return nil
}

// definitions measures what needs no server.
func definitions(ctx context.Context, r *results, p pace) error {
	var db pgcmd.DB
	conn, err := pgx.ConnectConfig(ctx, workload.Canned(workload.Failed).ConnConfig())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	db = conn
	failed := workload.Commands{DB: conn}.Add(ctx, workload.User{})
	_, raw := conn.Exec(ctx, workload.AddSQL, 1, "", "", true, time.Now())
	refused := func(err error) error {
		if err == nil {
			return errors.New("not refused")
		}
		return nil
	}
	for _, c := range []struct {
		work  string
		size  int
		sides []measure.Side
	}{
		{workNew, 10_000, []measure.Side{
			{Name: ours, Run: func(int) error { _, err := workload.Nothing.Run(ctx, db, 1); return err }},
			{Name: nameDirect, Run: func(int) error { _, err := workload.DoNothing(ctx, db, 1); return err }},
			{Name: nameTry, Run: func(int) error { return pgcmd.Try(ctx, db, workload.Nothing, 1).Err }},
		}},
		{workRefused, 1000, []measure.Side{
			{Name: ours, Run: func(int) error { _, err := workload.SignUp.Run(ctx, db, workload.Refused); return refused(err) }},
			{Name: byHand, Run: func(int) error { return refused(workload.CheckByHand(workload.Refused)) }},
		}},
		{workJSON, 1000, []measure.Side{
			{Name: ours, Run: func(int) error { _, err := json.Marshal(failed); return err }},
			{Name: nameErrorType, Run: func(int) error {
				var err error = &workload.AnswerError{Answer: workload.AnswerTo(raw)}
				_, err = json.Marshal(err)
				return err
			}},
			{Name: byHand, Run: func(int) error { _, err := json.Marshal(workload.AnswerTo(raw)); return err }},
		}},
	} {
		t, err := compare(c.work, c.sides, c.size, p, measure.CPU)
		if err != nil {
			return err
		}
		r.definition = append(r.definition, t)
	}
	return nil
}

// clientWorks are those on which the peers are compared there.
var clientWorks = []workload.Work{workload.One, workload.Simple, workload.Many}

// clientPeers measures the peers on the in-process server. A Pool would ping there, which it does nowhere else, for it
// cannot look at a socket: it is left out.
func clientPeers(ctx context.Context, r *results, p pace) error {
	for _, w := range clientWorks {
		t, err := race(ctx, w, append(onPgxpools(), peers()...), func(peer peer) *pgx.ConnConfig {
			return workload.Canned(w, peer.spellings...).ConnConfig()
		}, w.Size, p, measure.CPU)
		if err != nil {
			return err
		}
		r.peers = append(r.peers, t)
	}
	return nil
}

// race compares peers on a work.
func race(ctx context.Context, w workload.Work, peers []peer, config func(peer) *pgx.ConnConfig, size int, p pace, clock measure.Clock) (table, error) {
	var sides []measure.Side
	for _, peer := range peers {
		s, done, err := peer.open(ctx, config(peer))
		if err != nil {
			return table{}, err
		}
		defer done()
		sides = append(sides, w.Side(ctx, peer.name, s))
	}
	return compare(w.Name, sides, size, p, clock)
}

// A component is a part of what a command costs.
type component struct {
	name string
	took float64 // nanoseconds; of a difference of medians, which may be below 0
}

type checked struct {
	ID    int64  `validate:"gte=1"`
	Email string `validate:"required,email"`
	Name  string `validate:"max=100"`
}

var findChecked = pgcmd.QueryOne[checked, workload.User]("bench.checked",
	`select id, email, name, active, created_at from bench_users where id = @id`)

// costs takes a command of one row apart, by differences: each side has one thing more than another. The Pool is
// measured on PostgreSQL, for it looks at the socket, and the in-process server has none.
func costs(ctx context.Context, r *results, p pace) error {
	w := workload.One
	server := workload.Canned(w)
	conn, err := pgx.ConnectConfig(ctx, server.ConnConfig())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	pool, err := pgxpool.NewWithConfig(ctx, server.PoolConfig(maxConns))
	if err != nil {
		return err
	}
	defer pool.Close()
	cfg, err := databaseConfig(ctx)
	if err != nil {
		return err
	}
	stores, done, err := openAll(ctx, mains(), cfg)
	if err != nil {
		return err
	}
	defer done()
	in := checked{700, "ada@example.com", "Ada"}
	sides := []measure.Side{
		{Name: "nothing", Run: func(int) error { _, err := workload.Nothing.Run(ctx, conn, 1); return err }},
		w.Side(ctx, "by hand", workload.Hand{DB: conn}),
		w.Side(ctx, "command", workload.Commands{DB: conn}),
		{Name: "checked", Run: func(int) error { _, err := findChecked.Run(ctx, conn, in); return err }},
		w.Side(ctx, "on a pgxpool", workload.Commands{DB: pool}),
		w.Side(ctx, "PostgreSQL, on a pgxpool", stores[0]),
		w.Side(ctx, "PostgreSQL, on the Pool", stores[1]),
	}
	times, err := measure.Turns(sides, w.Turn(), 2*p.race, measure.Wall)
	if err != nil {
		return err
	}
	took := func(i int) float64 { return times[i].Spread().Median }
	r.components = []component{
		{"calling a command", took(0)},
		{"checking three rules", took(3) - took(2)},
		{"binding and reading, by hand", took(1)},
		{"binding and reading, by a command", took(2)},
		{"taking a connection of a pgxpool", took(4) - took(2)},
		{"the Pool: counts, times, looks", took(6) - took(5)},
		{"the socket and PostgreSQL", took(5) - took(4)},
	}
	return nil
}
