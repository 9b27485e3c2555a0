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
	{"A list", list},
	{"A violated constraint is your own error", conflict},
	{"A refused input: every problem at once, and no connection taken", refusal},
	{"Nothing found: a code to act on, and pgx's own error in reach", notFound},
	{"A timeout tells the truth: a read did nothing, a write may have", timeout},
	{"Hooks for one command, middleware for all that cuts across", hooks},
	{"An outcome as JSON, good or bad", outcome},
	{"The overhead, measured here and now, in turns with hand-written pgx", overhead},
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
		t.code(listing.pieces[0])
		count := 0
		var failures []error
		step.run(ctx, pool, func(got any, want string) {
			if ctx.Err() != nil {
				return
			}
			expression := listing.outcomes[count]
			count++
			ok := matches(text(got), want)
			if !ok {
				failures = append(failures, fmt.Errorf("step %d: %s is not %s", i+1, expression, want))
			}
			t.outcome(expression, text(got), ok)
			t.code(listing.pieces[count])
		})
		if err := ctx.Err(); err != nil {
			return err
		}
		if count != len(listing.outcomes) {
			failures = append(failures, fmt.Errorf("step %d showed %d of its %d outcomes", i+1, count, len(listing.outcomes)))
		}
		if err := errors.Join(failures...); err != nil {
			return err
		}
	}
	return nil
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
