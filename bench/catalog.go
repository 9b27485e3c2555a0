package main

import (
	"context"
	"encoding/json"
	"runtime"
	"time"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/measure"
)

// A registration is an input and an output of usual types.
type registration[T any] struct {
	ID    int64     `json:"id" validate:"gte=1"`
	Email string    `json:"email" validate:"required,email"`
	Name  string    `json:"name" validate:"max=100"`
	Tags  []string  `json:"tags"`
	At    time.Time `json:"at"`
	More  T         `json:"more,omitzero"`
}

const registrationJSON = `{"id":700,"email":"ada@example.com","name":"Ada Lovelace","tags":["a","b"],"at":"2026-01-02T03:04:05Z"}`

func register[T any]() *pgcmd.Command[registration[T], registration[T]] {
	return pgcmd.New("bench.register", func(_ context.Context, _ pgcmd.DB, in registration[T]) (registration[T], error) { return in, nil })
}

const (
	workCatalog    = "a command by its name, with JSON"
	nameCatalog    = "Catalog.Run"
	nameOfCommand  = "the command alone"
	nameOfEncoding = "encoding/json, both ways"
)

// catalogs measures what a Catalog costs, and what it costs to make one of commands of types that it has not seen.
func catalogs(ctx context.Context, r *results, p pace) error {
	known := register[[0]int]()
	made := []pgcmd.Definition{
		register[[1]int](), register[[2]int](), register[[3]int](), register[[4]int](), register[[5]int](), register[[6]int](),
		register[[7]int](), register[[8]int](), register[[9]int](), register[[10]int](), register[[11]int](), register[[12]int](),
		register[[13]int](), register[[14]int](), register[[15]int](), register[[16]int](), register[[17]int](), register[[18]int](),
	}
	// A third of them each time: what disturbs one, such as the runtime that returns memory, is over at the next.
	var took []float64
	makeNew := func() {
		runtime.GC()            // not of what was measured before
		pgcmd.NewCatalog(known) // what is made once, and is not in the processor's cache
		for _, def := range made[len(took) : len(took)+len(made)/3] {
			start := measure.CPU()
			pgcmd.NewCatalog(def)
			took = append(took, float64(measure.CPU()-start))
		}
	}
	makeNew()

	var db struct{ pgcmd.DB }
	command := register[int]()
	catalog := pgcmd.NewCatalog(command)
	text := json.RawMessage(registrationJSON)
	var in registration[int]
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	run := func(int) error { _, err := catalog.Run(ctx, db, "bench.register", text); return err }
	for i := range 10_000 {
		if err := run(i); err != nil {
			return err
		}
	}
	makeNew()
	t, err := compare(workCatalog, []measure.Side{
		{Name: nameCatalog, Run: run},
		{Name: nameOfCommand, Run: func(int) error { _, err := command.Run(ctx, db, in); return err }},
		{Name: nameOfEncoding, Run: func(int) error {
			var in registration[int]
			if err := json.Unmarshal(text, &in); err != nil {
				return err
			}
			_, err := json.Marshal(in)
			return err
		}},
	}, 1000, p, measure.CPU)
	r.definition = append(r.definition, t)
	makeNew()
	r.newCatalog = measure.SpreadOf(took).Median
	return err
}

// catalogRatio is what Catalog.Run takes beyond the command, of the time of encoding/json.
func catalogRatio(r *results) (float64, bool) {
	t, ok := find(r.definition, workCatalog)
	if !ok {
		return 0, false
	}
	return (t.rows[0].time.Median - t.rows[1].time.Median) / t.rows[2].time.Median, true
}
