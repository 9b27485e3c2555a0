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
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/bind"
	"github.com/pgcmd/pgcmd/internal/fingerprint"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
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
	storeSQL  = `update pgcmd.once set result = $3 where scope = $1 and key = $2 returning result`
	emptySQL  = `update pgcmd.once set result = null where scope = $1 and key = $2`
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
// hooks; keys are the command's own, by its name. The database needs [OnceSchema].
//
// Two inputs are the same if their fields are, whatever JSON shows of them: a field
// that is hidden from it, or a secret, counts as any other. Of the input only a
// SHA-256 is stored.
//   - Fields count by their names. A zero field is left out: a type that gets another
//     field, or has them in another order, makes no retry a conflict. A field that is
//     renamed, or moves to an embedded struct, does, unless it is zero.
//   - Times are instants, in whatever zone. A pointer counts by what it points to, and
//     a value in an interface by its type, too. 0 is -0, and NaN is NaN. A nil slice or
//     map is not an empty one, as NULL is not {}.
//   - A type with a method Fingerprint() string counts by that alone; else one with a
//     driver form ([driver.Valuer]) by that; else one that has unexported fields, as
//     [net/netip.Addr] and [math/big.Int] have, by its MarshalText or MarshalJSON.
//     Give a type whose forms hide it, or differ each time, a Fingerprint.
//   - [encoding/json.RawMessage] and its like count by what the JSON says.
//
// The result is stored as JSON, as jsonb has it, and read back before COMMIT: one that
// would be another when it is returned to a later run, as NaN, text that is not UTF-8
// or an empty slice with omitempty would, is CodeInternal, and the transaction is
// rolled back.
//
// It takes a Transaction, a statement or an InTx command, and panics on others. So it
// does on an In that cannot be compared: unexported fields without a form of their
// own, channels, functions; and on an Out of which JSON loses a part: unexported,
// `json:"-"`, interface or secret fields, two of one JSON name, an embedded pointer to
// an unexported struct, a MarshalJSON without UnmarshalJSON.
func Once[In, Out any](c *Command[In, Out], key func(In) string) *Command[In, Out] {
	if c == nil {
		panic("pgcmd: Once was given a nil command")
	}
	return &Command[In, Out]{c.def.defineOnce(key == nil, func(in any) string { return key(*in.(*In)) })}
}

// A oncePlan is what a Once computes at definition.
type oncePlan struct {
	key     func(in any) string
	in, out *fingerprint.Plan
}

func (c *definition) defineOnce(missing bool, key func(in any) string) *definition {
	reject := func(format string, args ...any) {
		panic(fmt.Sprintf("pgcmd: %s: Once ", c.name) + fmt.Sprintf(format, args...))
	}
	switch {
	case missing:
		reject("was given a nil key function")
	case !c.inTx && !c.isStatement:
		reject("needs a transaction: add InTx, or make the command a Transaction")
	case c.in.Kind() == reflect.Func:
		reject("compares the inputs of runs, and the sequence of a Copy cannot be: run the copy in a Transaction, and make that the Once")
	}
	in, err := fingerprint.Compile(c.in)
	if err != nil {
		reject("compares the inputs of runs, and %v", err)
	}
	if why := notJSON(c.out, c.out.String(), nil); why != "" {
		reject("stores the output as JSON, and %s", why)
	}
	out, err := fingerprint.Compile(c.out)
	if err != nil {
		reject("compares the output with what is stored, and %v", err)
	}
	k := *c
	k.inTx, k.isOnce, k.oncePlan = true, true, &oncePlan{key: key, in: in, out: out}
	return k.prepare()
}

// A claim is one run's hold on a key.
type idempotencyKey struct {
	scope, key  string
	fingerprint []byte
	old         func() []byte // the fingerprint that pgcmd made before it had a version
	run         [16]byte

	inserted bool                    // this attempt has inserted the row, so that no earlier one is applied
	replayed bool                    // the result is that of an earlier run
	lost     []func(context.Context) // AfterCommit functions of an attempt whose COMMIT had no reply
}

// idempotencyKeyFor makes the claim of a run, nil if the command is not a Once.
func (c *definition) idempotencyKeyFor(inv *invocation) (*idempotencyKey, *Error) {
	if !c.isOnce {
		return nil, nil
	}
	cl := &idempotencyKey{scope: c.name, key: c.oncePlan.key(inv.in)}
	if cl.key == "" || len(cl.key) > maxKey {
		return nil, newFieldError("", "once", fmt.Sprintf("the key of Once has %d bytes: it must have 1 to %d", len(cl.key), maxKey), nil)
	}
	if e := fieldError(bind.CheckText(cl.key, "the key of Once")); e != nil {
		return nil, e
	}
	sum, err := c.oncePlan.in.Sum(inv.in)
	if err != nil {
		return nil, notCompared(err)
	}
	cl.fingerprint = append([]byte{fingerprintVersion}, sum[:]...)
	cl.old = func() []byte { return oldFingerprint(inv.inValue.Interface()) }
	if len(c.before) > 0 { // they may change what it is made of
		old := cl.old()
		cl.old = func() []byte { return old }
	}
	_, _ = rand.Read(cl.run[:])
	return cl, nil
}

// fingerprintVersion is the first byte of a fingerprint. Those of the first version
// had none, and were 32 bytes long.
const fingerprintVersion = 2

// oldFingerprint is the hash of the input's JSON; nil if it has none.
func oldFingerprint(in any) []byte {
	text, err := json.Marshal(in)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256(text)
	return sum[:]
}

// notCompared is the error of an input that holds what cannot be compared.
func notCompared(err error) *Error {
	field, reason := "", err
	if e, ok := errors.AsType[*fingerprint.Error](err); ok {
		field, reason = strings.TrimPrefix(e.Path, "."), e.Err
	}
	e := newFieldError(field, "once", "cannot be compared with the input of another run, as Once does: "+reason.Error(), err)
	if _, ok := errors.AsType[fingerprint.TypeError](err); ok {
		e.Code = CodeInternal
	}
	return e
}

// same reports whether the input has the fingerprint that is stored.
func (cl *idempotencyKey) same(stored []byte) bool {
	if len(stored) == sha256.Size {
		return bytes.Equal(stored, cl.old())
	}
	return bytes.Equal(stored, cl.fingerprint)
}

// insertKey claims the key as the transaction's first statement. If it is taken, the
// result stored with it goes into out, and found is true.
func (cl *idempotencyKey) insertKey(ctx context.Context, tx *Tx, out any) (found bool, failure *Error) {
	tag, err := tx.Exec(ctx, claimSQL, cl.scope, cl.key, cl.fingerprint, cl.run)
	if err != nil {
		return false, cl.failed(ctx, err)
	}
	if tag.RowsAffected() == 1 {
		cl.inserted = true
		return false, nil
	}
	return cl.loadResult(ctx, tx, out)
}

// loadResult reads the result that is stored with the key.
func (cl *idempotencyKey) loadResult(ctx context.Context, tx *Tx, out any) (found bool, failure *Error) {
	var fingerprint, result []byte
	var run [16]byte
	err := tx.QueryRow(ctx, replaySQL, cl.scope, cl.key).Scan(&fingerprint, &run, &result)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, &Error{Code: CodeAborted, SQLState: sqlstate.SerializationFailure, Err: err,
			Message: "the key was taken and is not to be seen: its row was just deleted, or committed after this transaction's snapshot"}
	case err != nil:
		return false, cl.failed(ctx, err)
	case !cl.same(fingerprint):
		return false, &Error{Code: CodeConflict, Message: "the key was used before, with another input"}
	case result == nil:
		return false, &Error{Code: CodeInternal,
			Message: "the key was used before by a run that failed, in a transaction that was committed all the same: return the error of a Once from the transaction that it has joined, or run it by Try"}
	}
	if err := json.Unmarshal(result, out); err != nil {
		return false, &Error{Code: CodeInternal, Err: err,
			Message: "the stored result does not fit the output type: has it changed since?"}
	}
	cl.replayed = run != cl.run
	return true, nil
}

// storeResult keeps the result with the key, and makes sure that a later run gets it as it is.
func (cl *idempotencyKey) storeResult(ctx context.Context, tx *Tx, c *definition, out any) *Error {
	result, err := json.Marshal(out)
	if err != nil {
		return &Error{Code: CodeInternal, Err: err, Message: "the result has no JSON form, in which Once stores it"}
	}
	var stored []byte
	err = tx.QueryRow(ctx, storeSQL, cl.scope, cl.key, result).Scan(&stored)
	if errors.Is(err, pgx.ErrNoRows) {
		return &Error{Code: CodeInternal, Err: err, Message: "the key's row is gone from the ledger of Once: the body must not delete it"}
	}
	if err != nil {
		e := cl.failed(ctx, err)
		if strings.HasPrefix(e.SQLState, "22") {
			e.Code, e.Message = CodeInternal, "the output cannot be stored as jsonb, as Once does: it holds text with a NUL, or a number that is too large"
		}
		return e
	}
	replayed := reflect.New(c.out)
	if err := json.Unmarshal(stored, replayed.Interface()); err != nil {
		return cl.losesValues(ctx, tx, c.out.String(), err)
	}
	path, differs, err := c.oncePlan.out.Difference(out, replayed.Interface())
	if differs || err != nil {
		return cl.losesValues(ctx, tx, c.out.String()+path, err)
	}
	return nil
}

// losesValues is the error of an output that a later run would not get as it is.
func (cl *idempotencyKey) losesValues(ctx context.Context, tx *Tx, path string, cause error) *Error {
	_, _ = tx.Exec(ctx, emptySQL, cl.scope, cl.key) // for a transaction that goes on without the result
	return &Error{Code: CodeInternal, Err: cause, Message: path + " does not come back as it is from the JSON in which Once stores the output: " +
		"text must be valid UTF-8, what is empty and not nil must not have omitempty, and a type with a JSON form of its own must read all of what it writes"}
}

func (cl *idempotencyKey) failed(ctx context.Context, err error) *Error {
	e := classify(ctx, err)
	switch e.SQLState {
	case sqlstate.UndefinedTable, sqlstate.UndefinedSchema:
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
