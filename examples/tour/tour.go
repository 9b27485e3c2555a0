package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

// A see shows an outcome, which must be want: * in it stands for any text.
type see func(got any, want string)

var steps = []struct {
	title string
	run   func(ctx context.Context, pool *pgxpool.Pool, see see)
}{
	{"One row: the input fills @id, the columns fill the struct", lookup},
	{"Many rows", list},
	{"A violated constraint is your own error", conflict},
	{"A refused input: every problem at once, and no connection taken", refusal},
	{"Nothing found: a code to act on, and pgx's own error in reach", notFound},
	{"A timeout tells the truth: a read did nothing, a write may have", timeout},
	{"Hooks for one command, middleware for all that cuts across", hooks},
	{"An outcome as JSON, good or bad", outcome},
	{"What it costs, against pgx by hand: medians of pairs run in turns, just now", overhead},
}

// show runs the steps. Of each it shows the code before it runs, and its outcomes
// as they come. It ends at the first step with an outcome that is not as wanted.
func show(ctx context.Context, t *terminal, pool *pgxpool.Pool) error {
	defer zap.ReplaceGlobals(t.logger())()
	listings, err := listings()
	if err != nil {
		return err
	}
	for i, step := range steps {
		t.title(i+1, step.title)
		name := runtime.FuncForPC(reflect.ValueOf(step.run).Pointer()).Name()
		listing := listings[name[strings.LastIndexByte(name, '.')+1:]]
		if err := listing.show(ctx, t, pool, step.run); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

func (l listing) show(ctx context.Context, t *terminal, pool *pgxpool.Pool, run func(context.Context, *pgxpool.Pool, see)) error {
	t.code(l.pieces[0])
	shown := 0
	var failures []error
	run(ctx, pool, func(got any, want string) {
		if shown == len(l.outcomes) || ctx.Err() != nil {
			return
		}
		expression := l.outcomes[shown]
		ok := matches(text(got), want)
		if !ok {
			failures = append(failures, fmt.Errorf("%s is not %s", expression, want))
		}
		t.outcome(expression, text(got), ok)
		shown++
		t.code(l.pieces[shown])
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	if shown != len(l.outcomes) {
		failures = append(failures, fmt.Errorf("%d of %d outcomes were seen", shown, len(l.outcomes)))
	}
	return errors.Join(failures...)
}

func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case []byte:
		return string(v)
	}
	return fmt.Sprintf("%+v", v)
}

func matches(got, want string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), `\*`, `.*`)
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(got)
}
