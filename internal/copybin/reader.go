package copybin

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
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A Reader passes the bytes of a copy from the caller's goroutine, which runs the
// sequence, to pgconn's, which reads them. It has two buffers: one is filled while the
// other is sent.
type Reader struct {
	state   atomic.Int32
	stopped chan struct{} // closed when state becomes stopped
	full    chan []byte   // to be read; closed after the last
	free    chan []byte   // to be filled
	starved atomic.Bool   // the reader waits

	reading    []byte // the buffer that is being read,
	unread     []byte // and the rest of it
	left       sync.Once
	readerGone chan struct{} // closed when pgconn reads no more

	conn     *pgx.Conn
	settings []stmtcache.Setting // set before the copy, in its transaction
	timeout  time.Duration       // of an abort
	sent     atomic.Int64        // on the connection, when the reader returned io.EOF
	counted  atomic.Bool         // sent is known

	cancel context.CancelFunc // ends the copy, and the connection
	done   chan struct{}      // closed when pgconn has returned
	tag    pgconn.CommandTag
	Err    error // of pgconn, once the copy is over
	panic  any   // of user code that pgconn called, such as OnNotice
}

// A reader is stopped or has ended, and never both: the Effect of a copy depends on
// whether its end may have been sent.
const (
	running int32 = iota
	stopped       // pgconn aborts the copy, or has returned
	ended         // the reader has returned io.EOF
)

const (
	// copyChunk is what pgconn reads, and sends, at once: 64 KiB with the message's
	// head. Whole chunks are handed over, so that it need not send the small rest of
	// one.
	chunkSize = 65536 - 5

	// starvedTime is for how long rows of a slow sequence are kept back to fill a
	// chunk: it bounds how late the server's complaint about them is.
	starvedTime = 100 * time.Millisecond

	// stopTime is for how long the server may take to answer that the copy is
	// aborted, once the caller's context is done. If it takes longer, the connection
	// is closed.
	stopTime = 100 * time.Millisecond
)

// errClientAborted goes to the server, and so into its log: it must hold no value.
var errClientAborted = errors.New("the client gave up")

// buffers are buffers that no copy uses.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, chunkSize+8<<10); return &b }}

// NewReader begins the copy, after settings if there are any. The caller must end it by Close or
// Abandon, which waits for timeout at most until it closes the connection.
func NewReader(ctx context.Context, conn *pgx.Conn, sql string, settings []stmtcache.Setting, timeout time.Duration) *Reader {
	f := &Reader{
		stopped:    make(chan struct{}),
		full:       make(chan []byte, 1),
		free:       make(chan []byte, 2),
		conn:       conn,
		settings:   settings,
		timeout:    timeout,
		done:       make(chan struct{}),
		readerGone: make(chan struct{}),
	}
	for range cap(f.free) {
		f.free <- *buffers.Get().(*[]byte)
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
		f.Err = errClientAborted // unless it returns
		defer func() { f.panic = recover() }()
		if len(settings) > 0 {
			f.tag, f.Err = f.copyAfter(copyCtx, sql)
		} else {
			f.tag, f.Err = conn.PgConn().CopyFrom(copyCtx, f, sql)
		}
		if f.Err == nil && !f.Ended() {
			f.Err = errClientAborted // whatever the server says
		}
	}()
	return f
}

// stop makes the reader abort the copy, unless it has ended or was stopped.
func (f *Reader) stop() bool {
	if !f.state.CompareAndSwap(running, stopped) {
		return false
	}
	close(f.stopped)
	return true
}

func (f *Reader) Over() bool { return f.state.Load() != running }

func (f *Reader) Ended() bool { return f.state.Load() == ended }

// EndUnsent reports whether nothing has left since the reader was told that this
// was all: the server does not know that it was.
func (f *Reader) EndUnsent() bool {
	now, _ := connpool.Sent(f.conn)
	return f.counted.Load() && now == f.sent.Load()
}

// Abandon aborts the copy, unless it is over, and waits until pgconn no longer uses
// the connection.
func (f *Reader) Abandon() {
	if f.stop() {
		timer := time.AfterFunc(f.timeout, f.cancel)
		defer timer.Stop()
	}
	f.wait()
}

// awayTime is how long the reader may take to go after a panic.
const awayTime = 100 * time.Millisecond

// wait waits until pgconn has returned. What panicked there goes on here, and not
// where it would end the process; the connection is then unusable.
func (f *Reader) wait() {
	<-f.done
	if reason := f.panic; reason != nil {
		f.panic = nil
		ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
		defer cancel()
		select {
		case <-f.readerGone: // pgconn does not wait for it, and it writes on the connection as Close does
		case <-time.After(awayTime): // it is stuck in a write
		}
		_ = f.conn.PgConn().Conn().Close()
		_ = f.conn.Close(ctx)
		panic(reason)
	}
}

// Close waits for the server's answer, after SendLast or when the copy is over.
func (f *Reader) Close() (pgconn.CommandTag, error) {
	f.wait()
	if f.Err == nil { // then pgconn reads no more
		for range len(f.free) {
			if b := <-f.free; cap(b) <= 2*chunkSize {
				buffers.Put(&b)
			}
		}
	}
	return f.tag, f.Err
}

// Buffer returns an empty buffer, once there is one; nil if the copy is over.
func (f *Reader) Buffer() []byte {
	select {
	case b := <-f.free:
		return b[:0]
	case <-f.stopped:
		return nil
	}
}

// WantsFlush reports whether a buffer of so many bytes is to be sent: it holds a chunk, or the
// reader has waited so long that less is to be sent.
func (f *Reader) WantsFlush(size int) bool { return size >= chunkSize || f.starved.Load() }

// Send hands over buf and returns the next buffer to fill, which may hold a rest.
func (f *Reader) Send(buf []byte) []byte {
	whole := len(buf)
	if !f.starved.Swap(false) {
		whole -= len(buf) % chunkSize
	}
	next := f.Buffer()
	next = append(next, buf[whole:]...)
	select {
	case f.full <- buf[:whole]:
	case <-f.stopped:
	}
	return next
}

// SendLast hands over buf, and says that this was all.
func (f *Reader) SendLast(buf []byte) {
	select {
	case f.full <- buf:
		close(f.full)
	case <-f.stopped:
	}
}

// Read is what pgconn reads the copy by, on a goroutine of its own. Any error but
// io.EOF makes it abort the copy.
func (f *Reader) Read(p []byte) (int, error) {
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
func (f *Reader) next() ([]byte, error) {
	if f.state.Load() == stopped {
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

func (f *Reader) got(chunk []byte, ok bool) ([]byte, error) {
	if ok {
		f.starved.Store(false)
		return chunk, nil
	}
	sent, counted := connpool.Sent(f.conn)
	f.sent.Store(sent)
	f.counted.Store(counted)
	if !f.state.CompareAndSwap(running, ended) {
		return nil, errClientAborted
	}
	return nil, io.EOF
}
