package pgcmd

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/fingerprint"
	"github.com/pgcmd/pgcmd/internal/jsonfields"
	"github.com/pgcmd/pgcmd/internal/redact"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// OnceSchema creates the table that [Once] needs. It may be executed repeatedly. The role of
// the commands needs SELECT, INSERT and UPDATE on the table.
//
// A key is remembered as long as its row exists. Delete old rows in batches, so that no lock
// is held for long, until none is left:
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
	// An INSERT waits for an attempt that has not ended on the server. A SELECT does not
	// see it.
	insertKeySQL   = `insert into pgcmd.once (scope, key, fingerprint, run) values ($1, $2, $3, $4) on conflict do nothing`
	loadResultSQL  = `select fingerprint, run, result from pgcmd.once where scope = $1 and key = $2`
	storeResultSQL = `update pgcmd.once set result = $3 where scope = $1 and key = $2 returning result`
	clearResultSQL = `update pgcmd.once set result = null where scope = $1 and key = $2`
)

// maxKey is the maximum length of a key, in bytes.
const maxKey = 255

// Once makes a transaction exactly-once: it stores the key of the input and the result in the
// same transaction, and a later run with the same key returns the stored result
// ([Outcome.Replayed]), without running the body and the After hooks. So a lost connection
// leaves no doubt: with Options.Retry every error of the connection is retried, and a caller
// may run the command again after an Unknown. The same key with another input is
// CodeConflict.
//
// The key, of 1 to 255 bytes, is made from the caller's input, before the Before hooks run.
// Each command has its own keys, by its name. With [Config].Settings all tenants share them:
// docs/tenants.md has the SQL that gives each its own. The database needs [OnceSchema].
//
// Two inputs are the same if their fields are, whatever their JSON is: a field that JSON
// omits, or a secret, counts like any other. Of the input only a SHA-256 is stored.
//   - Fields are compared by name, and zero fields are omitted: an input is the same after
//     its type got another field, or another order of fields, but not after a field that
//     is not zero was renamed, or moved to an embedded struct.
//   - Times are compared as instants, without the zone, pointers by the value that they
//     point to, values in an interface by their type too. 0 equals -0, and NaN equals NaN.
//     A nil slice or map differs from an empty one, as NULL differs from {}.
//   - A type with a method Fingerprint() string is compared by that alone; else one that is
//     a [driver.Valuer] by its Value; else one with unexported fields, such as
//     [net/netip.Addr] and [math/big.Int], by its MarshalText or MarshalJSON. Give a type
//     a Fingerprint if these omit a part of it, or differ each time.
//   - [encoding/json.RawMessage] and similar types are compared by the value of the JSON.
//
// The result is stored as jsonb, and read back before COMMIT. If a later run would return
// another value, as for NaN, text that is not UTF-8 or an empty slice with omitempty, the
// error is CodeInternal, and the transaction is rolled back.
//
// It takes a Transaction, a statement or an InTx command, and panics on others. It also
// panics on an In that cannot be compared (unexported fields without one of the methods
// above, channels, functions) and on an Out of which JSON omits a part: unexported,
// `json:"-"`, interface or secret fields, two with the same JSON name, an embedded pointer to
// an unexported struct, a MarshalJSON without UnmarshalJSON.
func Once[In, Out any](c *Command[In, Out], key func(In) string) *Command[In, Out] {
	if c == nil {
		panic("pgcmd: Once was given a nil command: pass one")
	}
	return &Command[In, Out]{c.def.defineOnce(key == nil, func(in any) string { return key(*in.(*In)) })}
}

// A oncePlan is prepared when a Once is defined.
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
		reject("was given a nil key function: pass one that returns the key of an input")
	case !c.inTx && !c.isStatement:
		reject("needs a transaction: add InTx, or make the command a Transaction")
	case c.batch != nil:
		reject("stores the output as JSON, and the outcomes of a batch are not read back from it: run the batch in a Transaction, and make that the Once")
	case c.in.Kind() == reflect.Func:
		reject("compares the inputs of runs, and the sequence of a Copy cannot be: run the copy in a Transaction, and make that the Once")
	}
	in, err := fingerprint.Compile(c.in)
	if err != nil {
		reject("compares the inputs of runs, and %v", err)
	}
	if reason := jsonfields.Loss(c.out, redact.IsSecret); reason != "" {
		reject("stores the output as JSON, and %s", reason)
	}
	out, err := fingerprint.Compile(c.out)
	if err != nil {
		reject("compares the output with what is stored, and %v", err)
	}
	k := *c
	k.inTx, k.isOnce, k.oncePlan = true, true, &oncePlan{key: key, in: in, out: out}
	return k.prepare()
}

// An idempotencyKey is the key of one run of a Once.
type idempotencyKey struct {
	scope, key string
	input      *fingerprint.Mark
	run        [16]byte // random

	inserted bool                    // this attempt has inserted the row, so that no earlier attempt is applied
	replayed bool                    // the result is of an earlier run
	lost     []func(context.Context) // AfterCommit functions of an attempt whose COMMIT had no reply
}

// idempotencyKeyFor makes the key of a run. It is nil if the command is not a Once.
func (c *definition) idempotencyKeyFor(inv *invocation) (*idempotencyKey, *Error) {
	if !c.isOnce {
		return nil, nil
	}
	k := &idempotencyKey{scope: c.name, key: c.oncePlan.key(inv.in)}
	if k.key == "" || len(k.key) > maxKey {
		return nil, newFieldError("", "once", fmt.Sprintf("the key of Once has %d bytes: it must have 1 to %d", len(k.key), maxKey), nil)
	}
	if why := typemap.NotText(k.key); why != "" {
		return nil, newFieldError("the key of Once", "text", why, nil)
	}
	var err error
	if k.input, err = c.oncePlan.in.Mark(inv.in, len(c.before) > 0); err != nil {
		return nil, notCompared(err)
	}
	_, _ = rand.Read(k.run[:])
	return k, nil
}

// notCompared makes the error of an input with a value that cannot be compared.
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

// insertKey inserts the key, as the transaction's first statement. If it exists already, the
// stored result is read into out, and found is true.
func (k *idempotencyKey) insertKey(ctx context.Context, tx *Tx, out any) (found bool, failure *Error) {
	tag, err := tx.Exec(ctx, insertKeySQL, k.scope, k.key, k.input.Bytes, k.run)
	if err != nil {
		return false, k.failed(ctx, err)
	}
	if tag.RowsAffected() == 1 {
		k.inserted = true
		return false, nil
	}
	return k.loadResult(ctx, tx, out)
}

// loadResult reads the result that is stored with the key.
func (k *idempotencyKey) loadResult(ctx context.Context, tx *Tx, out any) (found bool, failure *Error) {
	var input, result []byte
	var run [16]byte
	err := tx.QueryRow(ctx, loadResultSQL, k.scope, k.key).Scan(&input, &run, &result)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, &Error{Code: CodeAborted, SQLState: sqlstate.SerializationFailure, Err: err,
			Message: "the key exists and is not visible: its row was just deleted, or committed after this transaction's snapshot"}
	case err != nil:
		return false, k.failed(ctx, err)
	case !k.input.Equals(input):
		return false, &Error{Code: CodeConflict, Message: "the key was used before, with another input: use a new key"}
	case result == nil:
		return false, &Error{Code: CodeInternal,
			Message: "the key was used before by a run that failed, in a transaction that was committed all the same: return the error of a Once from the transaction that it has joined, or run it by Try"}
	}
	if err := json.Unmarshal(result, out); err != nil {
		return false, &Error{Code: CodeInternal, Err: err,
			Message: "the stored result does not fit the output type: has it changed since?"}
	}
	k.replayed = run != k.run
	return true, nil
}

// storeResult stores the result with the key, and checks that a later run would return it
// unchanged.
func (k *idempotencyKey) storeResult(ctx context.Context, tx *Tx, c *definition, out any) *Error {
	result, err := json.Marshal(out)
	if err != nil {
		return &Error{Code: CodeInternal, Err: err, Message: "Once stores the output as JSON, and it has no JSON form: NaN, an infinity and a value that holds itself have none"}
	}
	var stored []byte
	err = tx.QueryRow(ctx, storeResultSQL, k.scope, k.key, result).Scan(&stored)
	if errors.Is(err, pgx.ErrNoRows) {
		return &Error{Code: CodeInternal, Err: err, Message: "the key's row is gone from the ledger of Once: the body must not delete it"}
	}
	if err != nil {
		e := k.failed(ctx, err)
		if strings.HasPrefix(e.SQLState, "22") {
			e.Code, e.Message = CodeInternal, "the output cannot be stored as jsonb, as Once does: it holds text with a NUL, or a number that is too large"
		}
		return e
	}
	replayed := reflect.New(c.out)
	if err := json.Unmarshal(stored, replayed.Interface()); err != nil {
		return k.losesValues(ctx, tx, c.out.String(), err)
	}
	path, differs, err := c.oncePlan.out.Difference(out, replayed.Interface())
	if differs || err != nil {
		return k.losesValues(ctx, tx, c.out.String()+path, err)
	}
	return nil
}

// losesValues makes the error of an output that a later run would not return unchanged.
func (k *idempotencyKey) losesValues(ctx context.Context, tx *Tx, path string, cause error) *Error {
	_, _ = tx.Exec(ctx, clearResultSQL, k.scope, k.key) // for a transaction that goes on after the error
	return &Error{Code: CodeInternal, Err: cause, Message: path + " does not come back as it is from the JSON in which Once stores the output: " +
		"text must be valid UTF-8, what is empty and not nil must not have omitempty, and a type with a JSON form of its own must read all of what it writes"}
}

// failed makes the error of a statement on the table of Once.
func (k *idempotencyKey) failed(ctx context.Context, err error) *Error {
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
