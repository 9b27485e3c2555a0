package copybin

import (
	"context"
	"encoding/binary"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/pgcommit"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// copyAfter is [pgconn.PgConn.CopyFrom] after settings. pgconn sends COPY by the simple protocol,
// where values can only be part of the SQL; here all is one message of the extended protocol, up
// to the Sync behind the rows, and so one transaction.
func (f *Reader) copyAfter(ctx context.Context, sql string) (tag pgconn.CommandTag, err error) {
	if err := ctx.Err(); err != nil {
		return tag, err
	}
	pg, watch := f.conn.PgConn(), stmtcache.OnConn(f.conn).Watch
	to := pg.Frontend()
	stmtcache.QueueSettings(to, nil, f.settings)
	to.SendParse(&pgproto3.Parse{Query: sql})
	to.SendBind(&pgproto3.Bind{})
	to.SendExecute(&pgproto3.Execute{})
	watch.Start(ctx)
	alive, sent := false, make(chan struct{})
	endSending := func() {
		f.stop()
		_ = pg.Conn().SetDeadline(time.Unix(1, 0)) // ends a write
		<-sent
	}
	defer func() { // also if OnNotice panicked
		if !alive {
			endSending()
		}
		<-sent
		watch.End(!alive)
		if watch.Close(); !alive {
			pgrows.Abort(pg)
		}
	}()
	if err := to.Flush(); err != nil {
		close(sent)
		return tag, err
	}
	go func() {
		defer close(sent)
		if f.sendRows(to) != nil {
			_ = pg.Conn().Close() // ends the reading below
		}
	}()
	in := pgcommit.NewReader(f.conn, stmtcache.ConfigOf(f.conn))
	in.BeforeClose = endSending // it writes a message
	for completed := 0; ; {
		message, failure := in.Receive()
		switch message := message.(type) {
		case nil:
			if !pgxerr.IsServer(failure) || f.conn.IsClosed() {
				if err == nil {
					err = failure
				}
				return tag, err
			}
			if completed < len(f.settings) {
				failure = stmtcache.RefusedSetting(f.settings[completed].Name, failure)
			}
			if err == nil {
				err = failure
			}
			f.stop() // unless the rows have ended
		case *pgproto3.CommandComplete:
			if completed++; completed > len(f.settings) {
				tag = pgconn.NewCommandTag(string(message.CommandTag))
			}
		case *pgproto3.ReadyForQuery:
			alive = true
			return tag, err
		}
	}
}

// sendRows sends the rows and the end of the copy.
func (f *Reader) sendRows(to *pgproto3.Frontend) error {
	buf := make([]byte, 5+chunkSize)
	buf[0] = 'd'
	for {
		n, err := f.Read(buf[5:])
		if n > 0 {
			binary.BigEndian.PutUint32(buf[1:], uint32(n+4))
			if err := to.SendUnbufferedEncodedCopyData(buf[:5+n]); err != nil {
				return err
			}
		}
		if err == nil {
			continue
		}
		if err == io.EOF {
			to.Send(&pgproto3.CopyDone{})
		} else {
			to.Send(&pgproto3.CopyFail{Message: err.Error()})
		}
		to.SendSync(&pgproto3.Sync{})
		return to.Flush()
	}
}
