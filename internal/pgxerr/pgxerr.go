// Package pgxerr recognizes the errors of pgx, of its pools and of making a connection. Many of
// them have no type: a test holds their text. It does not know what a command was doing.
package pgxerr

import (
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrPoolClosed is the cause of an error of a pool of ours that is closed.
var ErrPoolClosed = errors.New("pgcmd: the pool is closed")

// IsPoolClosed reports whether err is of a pool that was closed: of puddle's, whose error
// pgxpool passes on, or of ours.
func IsPoolClosed(err error) bool {
	return err != nil && (errors.Is(err, ErrPoolClosed) || err.Error() == "closed pool")
}

// IsServer reports whether the server has reported err.
func IsServer(err error) bool { return is[*pgconn.PgError](err) }

// IsConnect reports whether err is of a connection that could not be made.
func IsConnect(err error) bool { return is[*pgconn.ConnectError](err) }

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// IsPermanent reports whether no connection was available for a reason that does not pass.
func IsPermanent(err error) bool {
	if dns, ok := errors.AsType[*net.DNSError](err); ok && !IsPoolClosed(err) {
		return dns.IsNotFound
	}
	return IsPoolClosed(err) || is[*tls.CertificateVerificationError](err) || is[tls.AlertError](err) ||
		err != nil && strings.Contains(err.Error(), "server refused TLS connection")
}

// DialHint says why the network or TLS did not allow a connection, and what to do about it.
func DialHint(err error) string {
	switch {
	case is[*net.DNSError](err):
		return "the host's name cannot be resolved: check it"
	case is[*tls.CertificateVerificationError](err):
		return "the server's certificate is not valid for its name, or by its date, or by its issuer: check it and sslrootcert"
	case is[tls.AlertError](err):
		return "the TLS handshake was refused: check the certificates"
	}
	return "no connection could be made: is the server running, and is the address right?"
}

// WithoutBatch unwraps the error that pgx wraps for a batch, as which the caller has not sent
// the statement.
func WithoutBatch(err error) error {
	if wrapped, ok := errors.AsType[pgx.ErrPreprocessingBatch](err); ok {
		return wrapped.Unwrap()
	}
	return err
}

// Refusal says why pgx refused a statement before it sent a byte of it; "" if err is another
// error. ofCode means that the program is wrong, and not the values.
func Refusal(err error) (message string, ofCode bool) {
	text := err.Error()
	for _, prefix := range [...]string{"expected ", "mismatched param and argument count", "extended protocol limited to "} {
		if strings.HasPrefix(text, prefix) {
			return "the statement has another number of parameters than the SQL that was defined", true
		}
	}
	switch {
	case strings.Contains(text, "message body too large"):
		return "the values are too large for one message, which holds 1 GiB", false
	case strings.HasPrefix(text, "cannot use QueryExecModeCache"): // StatementCacheCapacity or DescriptionCacheCapacity is 0
		return "pgx is set to cache no statements, and to use those that it caches: set another DefaultQueryExecMode, or a capacity", true
	case text == "conn busy":
		return "the connection is busy: rows of an earlier query are still open on it", true
	}
	return "", false
}

const encodePrefix = "failed to encode args["

// IsEncode reports whether err is of an argument that could not be encoded.
func IsEncode(err error) bool { return err != nil && strings.HasPrefix(err.Error(), encodePrefix) }

// ParseEncode takes apart the error of an argument that could not be encoded: its number,
// from 0, -1 if it does not tell, and the type that it was to be encoded as. Its text holds
// the value.
func ParseEncode(err error) (i int, oid uint32, ok bool) {
	text := err.Error()
	i = -1
	if rest, found := strings.CutPrefix(text, encodePrefix); found {
		number, _, _ := strings.Cut(rest, "]")
		if n, e := strconv.Atoi(number); e == nil {
			i = n
		}
		ok = true
		if err = errors.Unwrap(err); err == nil {
			return i, 0, true
		}
		text = err.Error()
	}
	if !strings.HasPrefix(text, "unable to encode ") {
		return i, 0, ok
	}
	if IsServer(err) && !ok {
		return i, 0, false
	}
	if cause := errors.Unwrap(err); cause != nil {
		text = strings.TrimSuffix(text, ": "+cause.Error())
	}
	at := strings.LastIndex(text, " (OID ")
	if at < 0 {
		return i, 0, ok
	}
	n, parsed := strconv.ParseUint(strings.TrimSuffix(text[at+len(" (OID "):], ")"), 10, 32)
	return i, uint32(n), ok || parsed == nil
}
