package pgcmd

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/mutant"
)

// OnceSchema is the ledger that [Once] needs; it may be run again and again. The
// commands' role needs SELECT, INSERT and UPDATE on the table.
//
// A key is remembered for as long as its row is there. Delete old rows in batches,
// so that no lock is held for long, until none is left:
//
//	delete from pgcmd.once where (scope, key) in
//		(select scope, key from pgcmd.once where created_at < now() - interval '30 days' limit 1000)
const OnceSchema = `create schema if not exists pgcmd;
create table if not exists pgcmd.once (
	scope       text        not null,
	key         text        not null,
	fingerprint bytea       not null,
	run         uuid        not null,
	result      jsonb,
	created_at  timestamptz not null default now(),
	primary key (scope, key)
);
create index if not exists once_created_at on pgcmd.once (created_at);`

const (
	// An INSERT, and not a SELECT: it waits for an attempt that is still in flight,
	// which a SELECT does not see.
	claimSQL  = `insert into pgcmd.once (scope, key, fingerprint, run) values ($1, $2, $3, $4) on conflict do nothing`
	replaySQL = `select fingerprint, run, result from pgcmd.once where scope = $1 and key = $2`
	storeSQL  = `update pgcmd.once set result = $3 where scope = $1 and key = $2`
)

// maxKey is the longest key, in bytes.
const maxKey = 255

// Once makes a transaction exactly-once: the key of its input and its result are
// stored in the same transaction, and a later run with the same key returns the
// stored result ([Outcome.Replayed]), without body and After. Then a lost
// connection is no question any more: with Options.Retry every failure of the
// transport is tried again, and a caller may run the command again after an
// Unknown. The same key with another input is CodeConflict.
//
// The key, of 1 to 255 bytes, comes from the caller's input, before the Before
// hooks; keys are the command's own, by its name. The input itself is not stored,
// only its SHA-256; the result is, as JSON. The database needs [OnceSchema].
//
// It takes a Transaction, a statement or an InTx command, and panics on others, and
// on an Out that does not survive JSON: unexported, `json:"-"`, interface or
// secret fields.
func Once[In, Out any](c *Command[In, Out], key func(In) string) *Command[In, Out] {
	switch {
	case c == nil:
		panic("pgcmd: Once was given a nil command")
	case key == nil:
		panic(fmt.Sprintf("pgcmd: %s: Once was given a nil key function", c.core.name))
	case !c.core.begins && !c.core.statement:
		panic(fmt.Sprintf("pgcmd: %s: Once needs a transaction: add InTx, or make the command a Transaction", c.core.name))
	case reflect.TypeFor[In]().Kind() == reflect.Func:
		panic(fmt.Sprintf("pgcmd: %s: Once compares the inputs of runs, and the sequence of a Copy cannot be: run the copy in a Transaction, and make that the Once", c.core.name))
	}
	if why := notJSON(reflect.TypeFor[Out](), reflect.TypeFor[Out]().String(), nil); why != "" {
		panic(fmt.Sprintf("pgcmd: %s: Once stores the output as JSON, and %s", c.core.name, why))
	}
	k := c.core
	k.begins, k.once, k.key = true, true, func(in any) string { return key(*in.(*In)) }
	return c.as(&k)
}

// notJSON says why a value of type t would not be the same after a round trip
// through JSON, or "".
func notJSON(t reflect.Type, path string, seen []reflect.Type) string {
	for _, s := range seen {
		if s == t {
			return ""
		}
	}
	seen = append(seen, t)
	if t == reflect.TypeFor[time.Time]() || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return ""
	}
	switch t.Kind() {
	case reflect.Interface:
		return path + " is an interface: give it a type"
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return path + " has no JSON form"
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return notJSON(t.Elem(), path, seen)
	case reflect.Map:
		return notJSON(t.Elem(), path+"[]", seen)
	case reflect.Struct:
		for i := range t.NumField() {
			sf := t.Field(i)
			name := path + "." + sf.Name
			switch {
			case !sf.IsExported() && !sf.Anonymous:
				return name + " is unexported: export it"
			case sf.Tag.Get("json") == "-":
				return name + " is left out of it: take away its tag"
			case isSecret(sf):
				return name + " is a secret: leave it out of the output"
			}
			if why := notJSON(sf.Type, name, seen); why != "" {
				return why
			}
		}
	}
	return ""
}

// A claim is one run's hold on a key.
type claim struct {
	scope, key  string
	fingerprint []byte
	run         [16]byte

	made     bool                    // this attempt has inserted the row, so that no earlier one is applied
	replayed bool                    // the result is that of an earlier run
	lost     []func(context.Context) // AfterCommit functions of an attempt whose COMMIT had no reply
}

// claimFor makes the claim of a run, nil if the command is not a Once.
func (c *core) claimFor(j job) (*claim, *Error) {
	if !c.once {
		return nil, nil
	}
	cl := &claim{scope: c.name, key: c.key(j.input())}
	if cl.key == "" || len(cl.key) > maxKey {
		return nil, refusedValue("", "once", fmt.Sprintf("the key of Once has %d bytes: it must have 1 to %d", len(cl.key), maxKey), nil)
	}
	if e := checkText(cl.key, "the key of Once"); e != nil {
		return nil, e
	}
	text, err := json.Marshal(j.seen())
	if err != nil {
		return nil, refusedValue("", "once", "the input has no JSON form, which Once compares runs by", err)
	}
	sum := sha256.Sum256(text)
	cl.fingerprint = sum[:]
	_, _ = rand.Read(cl.run[:])
	return cl, nil
}

// take claims the key as the transaction's first statement. If it is taken, the
// result stored with it goes into out, and found is true.
func (cl *claim) take(ctx context.Context, tx *Tx, out any) (found bool, failure *Error) {
	if mutant.Planted(mutant.VerifyBySelect) {
		return cl.verify(ctx, tx, out)
	}
	tag, err := tx.Exec(ctx, claimSQL, cl.scope, cl.key, cl.fingerprint, cl.run)
	if err != nil {
		return false, cl.failed(ctx, err)
	}
	if tag.RowsAffected() == 1 {
		cl.made = true
		return false, nil
	}
	return cl.replay(ctx, tx, out)
}

// replay reads the result that is stored with the key.
func (cl *claim) replay(ctx context.Context, tx *Tx, out any) (found bool, failure *Error) {
	var fingerprint, result []byte
	var run [16]byte
	err := tx.QueryRow(ctx, replaySQL, cl.scope, cl.key).Scan(&fingerprint, &run, &result)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, &Error{Code: CodeAborted, SQLState: serializationFailure, Err: err,
			Message: "the key was taken and is not to be seen: its row was just deleted, or committed after this transaction's snapshot"}
	case err != nil:
		return false, cl.failed(ctx, err)
	case !bytes.Equal(fingerprint, cl.fingerprint):
		return false, &Error{Code: CodeConflict, Message: "the key was used before, with another input"}
	}
	if err := json.Unmarshal(result, out); err != nil {
		return false, &Error{Code: CodeInternal, Err: err,
			Message: "the stored result does not fit the output type: has it changed since?"}
	}
	cl.replayed = run != cl.run
	return true, nil
}

// verify is the mistake of looking whether the earlier attempt is there: one that
// is in flight is not, and commits later.
func (cl *claim) verify(ctx context.Context, tx *Tx, out any) (found bool, failure *Error) {
	if found, failure := cl.replay(ctx, tx, out); found || failure.SQLState != serializationFailure {
		return found, failure
	}
	cl.made = true
	_, err := tx.Exec(ctx, `insert into pgcmd.once (scope, key, fingerprint, run) values ($1, $2 || gen_random_uuid(), $3, $4)`,
		cl.scope, cl.key, cl.fingerprint, cl.run)
	if err != nil {
		return false, cl.failed(ctx, err)
	}
	return false, nil
}

// store keeps the result with the key.
func (cl *claim) store(ctx context.Context, tx *Tx, out any) *Error {
	result, err := json.Marshal(out)
	if err != nil {
		return &Error{Code: CodeInternal, Err: err, Message: "the result has no JSON form, in which Once stores it"}
	}
	if _, err := tx.Exec(ctx, storeSQL, cl.scope, cl.key, result); err != nil {
		return cl.failed(ctx, err)
	}
	return nil
}

func (cl *claim) failed(ctx context.Context, err error) *Error {
	e := causeOf(ctx, err)
	switch e.SQLState {
	case "42P01", "3F000":
		e.Message = "the ledger table of Once is missing: run pgcmd.OnceSchema"
	case "":
		if e.Code == CodeFailed {
			e.Code, e.Message = CodeUnavailable, "the connection failed at the ledger of Once"
		}
	default:
		e.Message = "at the ledger of Once: " + e.Message
	}
	return e
}
