package pgcmd

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/connpool"
)

// A copyReader passes the bytes of a copy from the caller's goroutine, which runs the
// sequence, to pgconn's, which reads them. It has two buffers: one is filled while the
// other is sent.
type copyReader struct {
	state   atomic.Int32
	stopped chan struct{} // closed when state becomes copyStopped
	full    chan []byte   // to be read; closed after the last
	free    chan []byte   // to be filled
	starved atomic.Bool   // the reader waits

	reading    []byte // the buffer that is being read,
	unread     []byte // and the rest of it
	left       sync.Once
	readerGone chan struct{} // closed when pgconn reads no more

	conn    *pgx.Conn
	sent    atomic.Int64 // on the connection, when the reader returned io.EOF
	counted atomic.Bool  // sent is known

	cancel context.CancelFunc // ends the copy, and the connection
	done   chan struct{}      // closed when pgconn has returned
	tag    pgconn.CommandTag
	err    error
	panic  any // of user code that pgconn called, such as OnNotice
}

// A reader is stopped or has ended, and never both: the Effect of a copy depends on
// whether its end may have been sent.
const (
	copyRunning int32 = iota
	copyStopped       // pgconn aborts the copy, or has returned
	copyEnded         // the reader has returned io.EOF
)

const (
	// copyChunk is what pgconn reads, and sends, at once: 64 KiB with the message's
	// head. Whole chunks are handed over, so that it need not send the small rest of
	// one.
	copyChunk = 65536 - 5

	// starvedTime is for how long rows of a slow sequence are kept back to fill a
	// chunk: it bounds how late the server's complaint about them is.
	starvedTime = 100 * time.Millisecond

	// stopTime is for how long the server may take to answer that the copy is
	// aborted, once the caller's context is done. If it takes longer, the connection
	// is closed.
	stopTime = 100 * time.Millisecond
)

// copyHeader begins a copy in binary, copyTrailer ends it.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	copyTrailer = "\xff\xff"
)

// errClientAborted goes to the server, and so into its log: it must hold no value.
var errClientAborted = errors.New("the client gave up")

// copyBuffers are buffers that no copy uses.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 0, copyChunk+8<<10); return &b }}

// newCopyReader begins the copy. The caller must end it by close or abandon.
func newCopyReader(ctx context.Context, conn *pgx.Conn, sql string) *copyReader {
	f := &copyReader{
		stopped:    make(chan struct{}),
		full:       make(chan []byte, 1),
		free:       make(chan []byte, 2),
		conn:       conn,
		done:       make(chan struct{}),
		readerGone: make(chan struct{}),
	}
	for range cap(f.free) {
		f.free <- *copyBuffers.Get().(*[]byte)
	}
	// A context that is done would cost the connection. So the server is asked first
	// to abort the copy, in order.
	copyCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.cancel = cancel
	unwatch := context.AfterFunc(ctx, func() {
		if f.stop() {
			time.AfterFunc(stopTime, cancel)
		} else {
			cancel()
		}
	})
	go func() {
		defer close(f.done)
		defer cancel()
		defer f.stop() // pgconn may have left a reader behind
		defer unwatch()
		f.err = errClientAborted // unless it returns
		defer func() { f.panic = recover() }()
		f.tag, f.err = conn.PgConn().CopyFrom(copyCtx, f, sql)
		if f.err == nil && !f.ended() {
			f.err = errClientAborted // whatever the server says
		}
	}()
	return f
}

// stop makes the reader abort the copy, unless it has ended or was stopped.
func (f *copyReader) stop() bool {
	if !f.state.CompareAndSwap(copyRunning, copyStopped) {
		return false
	}
	close(f.stopped)
	return true
}

func (f *copyReader) over() bool  { return f.state.Load() != copyRunning }
func (f *copyReader) ended() bool { return f.state.Load() == copyEnded }

// endUnsent reports whether nothing has left since the reader was told that this
// was all: the server does not know that it was.
func (f *copyReader) endUnsent() bool {
	now, _ := connpool.Sent(f.conn)
	return f.counted.Load() && now == f.sent.Load()
}

// abandon aborts the copy, unless it is over, and waits until pgconn has let go of
// the connection.
func (f *copyReader) abandon() {
	if f.stop() {
		timer := time.AfterFunc(endTime, f.cancel)
		defer timer.Stop()
	}
	f.wait()
}

// awayTime is how long the reader may take to go after a panic.
const awayTime = 100 * time.Millisecond

// wait waits until pgconn has returned. What panicked there goes on here, and not
// where it would end the process; the connection is then unusable.
func (f *copyReader) wait() {
	<-f.done
	if reason := f.panic; reason != nil {
		f.panic = nil
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		select {
		case <-f.readerGone: // whom pgconn does not wait for, and who writes on the connection as Close does
		case <-time.After(awayTime): // it is stuck in a write
		}
		_ = f.conn.PgConn().Conn().Close()
		_ = f.conn.Close(ctx)
		panic(reason)
	}
}

// close waits for the server's answer, after sendLast or when the copy is over.
func (f *copyReader) close() (pgconn.CommandTag, error) {
	f.wait()
	if f.err == nil { // then nobody reads any more
		for range len(f.free) {
			if b := <-f.free; cap(b) <= 2*copyChunk {
				copyBuffers.Put(&b)
			}
		}
	}
	return f.tag, f.err
}

// buffer returns an empty buffer, once there is one; nil if the copy is over.
func (f *copyReader) buffer() []byte {
	select {
	case b := <-f.free:
		return b[:0]
	case <-f.stopped:
		return nil
	}
}

// wantsFlush reports whether the reader has waited so long that less than a chunk is to
// be sent.
func (f *copyReader) wantsFlush() bool { return f.starved.Load() }

// send hands over buf and returns the next buffer to fill, which may hold a rest.
func (f *copyReader) send(buf []byte) []byte {
	whole := len(buf)
	if !f.starved.Swap(false) {
		whole -= len(buf) % copyChunk
	}
	next := f.buffer()
	next = append(next, buf[whole:]...)
	select {
	case f.full <- buf[:whole]:
	case <-f.stopped:
	}
	return next
}

// sendLast hands over buf, and says that this was all.
func (f *copyReader) sendLast(buf []byte) {
	select {
	case f.full <- buf:
		close(f.full)
	case <-f.stopped:
	}
}

// Read is what pgconn reads the copy by, on a goroutine of its own. Any error but
// io.EOF makes it abort the copy.
func (f *copyReader) Read(p []byte) (int, error) {
	for len(f.unread) == 0 {
		if f.reading != nil {
			f.free <- f.reading // there is room for both
			f.reading = nil
		}
		chunk, err := f.next()
		if err != nil {
			f.left.Do(func() { close(f.readerGone) })
			return 0, err
		}
		f.reading, f.unread = chunk, chunk
	}
	n := copy(p, f.unread)
	f.unread = f.unread[n:]
	return n, nil
}

// next waits for a buffer to read.
func (f *copyReader) next() ([]byte, error) {
	if f.state.Load() == copyStopped {
		return nil, errClientAborted
	}
	select {
	case chunk, ok := <-f.full:
		return f.got(chunk, ok)
	default:
	}
	timer := time.NewTimer(starvedTime)
	defer timer.Stop()
	for {
		select {
		case chunk, ok := <-f.full:
			return f.got(chunk, ok)
		case <-f.stopped:
			return nil, errClientAborted
		case <-timer.C:
			f.starved.Store(true)
		}
	}
}

func (f *copyReader) got(chunk []byte, ok bool) ([]byte, error) {
	if ok {
		f.starved.Store(false)
		return chunk, nil
	}
	sent, counted := connpool.Sent(f.conn)
	f.sent.Store(sent)
	f.counted.Store(counted)
	if !f.state.CompareAndSwap(copyRunning, copyEnded) {
		return nil, errClientAborted
	}
	return nil, io.EOF
}
