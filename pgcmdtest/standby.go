package pgcmdtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Standby starts a hot standby that streams from s, in a folder of its own, and returns once it answers; it gives up
// as [Start] does. It has the settings of s, and a TCP port of its own if s has one, as opts change them. [Server.Close]
// ends it, in any order with s. Until then, and beyond, s keeps the log that it has not received, as it has a
// replication slot. A standby of a standby is refused.
func (s *Server) Standby(ctx context.Context, opts ...Option) (*Server, error) {
	standby := &Server{primary: s, bin: s.bin, config: config{
		tcp:      s.config.tcp,
		settings: slices.Clone(s.config.settings),
		freePort: freePort,
	}}
	return standby.launch(ctx, opts, standby.backup)
}

// backup makes the data of a standby by a base backup of the primary. It is not pg_basebackup that does it, and not
// pg_ctl that promotes: there are PostgreSQLs without them, as those of scripts/matrix.
func (s *Server) backup(ctx context.Context) error {
	s.primary.mu.Lock()
	w := s.primary.watcher
	s.primary.mu.Unlock()
	if w == nil {
		return errors.New("base backup: the primary is closed")
	}
	// Copied with the data, but not used there.
	slot := "pgcmdtest_" + strings.ToLower(rand.Text()[:16])
	label, err := s.copyData(ctx, slot, filepath.Join(w.folder, "data"))
	if err != nil {
		return fmt.Errorf("base backup: %w", err)
	}
	s.config.set("primary_conninfo", s.primary.socket)
	s.config.set("primary_slot_name", slot)
	s.config.set("wal_retrieve_retry_interval", "100ms") // or it looks for a restarted primary every five seconds
	if err := s.watcher.write(ctx, "data/backup_label", label); err != nil {
		return err
	}
	return s.watcher.write(ctx, "data/standby.signal", "")
}

// copyData copies the data of the running primary, and returns the backup_label that makes it good. The slot keeps
// the log from before the copy on.
func (s *Server) copyData(ctx context.Context, slot, data string) (label string, err error) {
	conn, err := pgconn.Connect(ctx, s.primary.socket)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	version, recovering, err := versionOf(ctx, conn)
	if err != nil {
		return "", err
	}
	if recovering {
		return "", errors.New("the server is a standby itself, and writes no full pages: make the standby of its primary, or promote it first")
	}
	start, stop := "pg_backup_start('pgcmdtest', true)", "pg_backup_stop(false)"
	if version < 150000 {
		start, stop = "pg_start_backup('pgcmdtest', true, false)", "pg_stop_backup(false, false)"
	}
	if _, err := row(ctx, conn, "select pg_create_physical_replication_slot('"+slot+"', true), "+start); err != nil {
		return "", err
	}
	switch report, err := s.watcher.ask(ctx, "copy "+data); {
	case err != nil:
		return "", err
	case report != "copy 0":
		return "", fmt.Errorf("copying %s failed: %s", data, s.watcher.log(0))
	}
	values, err := row(ctx, conn, "select labelfile from "+stop)
	if err != nil {
		return "", err
	}
	return values[0], nil
}

func versionOf(ctx context.Context, conn *pgconn.PgConn) (version int, recovering bool, err error) {
	values, err := row(ctx, conn, "select current_setting('server_version_num'), pg_is_in_recovery()")
	if err != nil {
		return 0, false, err
	}
	version, err = strconv.Atoi(values[0])
	return version, values[1] == "t", err
}

// row returns the values of the one row that sql returns, as text.
func row(ctx context.Context, conn *pgconn.PgConn, sql string) ([]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return nil, fmt.Errorf("%s: not one row", sql)
	}
	values := make([]string, len(results[0].Rows[0]))
	for i, value := range results[0].Rows[0] {
		values[i] = string(value)
	}
	return values, nil
}

// Promote ends the recovery of a standby and waits until it takes writes, a minute at most. What it has received is
// replayed first, paused or not. The primary is not told: it goes on, unless it was stopped.
func (s *Server) Promote(ctx context.Context) error {
	return s.replay(ctx, "promote", func(ctx context.Context, conn *pgconn.PgConn) error {
		// A paused standby looks for the promotion once a second, for the end of the pause at once.
		if _, err := row(ctx, conn, "select pg_wal_replay_resume(), pg_promote(false)"); err != nil {
			return err
		}
		return until(ctx, conn, "select not pg_is_in_recovery()")
	})
}

// PauseReplay makes a standby lag, and waits until it does: it receives, but what commits from then on is not
// seen on it until [Server.ResumeReplay].
func (s *Server) PauseReplay(ctx context.Context) error {
	return s.replay(ctx, "pause the replay", func(ctx context.Context, conn *pgconn.PgConn) error {
		if _, err := row(ctx, conn, "select pg_wal_replay_pause()"); err != nil {
			return err
		}
		return until(ctx, conn, "select pg_get_wal_replay_pause_state() = 'paused'")
	})
}

// ResumeReplay ends what [Server.PauseReplay] began. It does not wait until the standby has caught up: see [Server.CatchUp].
func (s *Server) ResumeReplay(ctx context.Context) error {
	return s.replay(ctx, "resume the replay", func(ctx context.Context, conn *pgconn.PgConn) error {
		_, err := row(ctx, conn, "select pg_wal_replay_resume()")
		return err
	})
}

// CatchUp waits until a standby shows every transaction whose commit its primary had acknowledged before the call,
// a minute at most; those with synchronous_commit off may be missing. The primary has to run.
func (s *Server) CatchUp(ctx context.Context) error {
	return s.replay(ctx, "catch up", func(ctx context.Context, conn *pgconn.PgConn) error {
		primary, err := pgconn.Connect(ctx, s.primary.socket)
		if err != nil {
			return fmt.Errorf("the primary: %w", err)
		}
		defer primary.Close(context.WithoutCancel(ctx))
		values, err := row(ctx, primary, "select pg_current_wal_flush_lsn()")
		if err != nil {
			return fmt.Errorf("the primary: %w", err)
		}
		return until(ctx, conn, "select pg_last_wal_replay_lsn() >= '"+values[0]+"'")
	})
}

// replay runs do on a connection to a standby that has not been promoted.
func (s *Server) replay(ctx context.Context, what string, do func(context.Context, *pgconn.PgConn) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("pgcmdtest: %s: %w", what, err)
		}
	}()
	if s.primary == nil {
		return errors.New("the server is not a standby")
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgconn.Connect(ctx, s.socket)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	switch _, recovering, err := versionOf(ctx, conn); {
	case err != nil:
		return err
	case !recovering:
		return errors.New("the server is no standby any more: it was promoted")
	}
	return do(ctx, conn)
}

// until repeats sql, which returns a boolean, until that is true.
func until(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		values, err := row(ctx, conn, sql)
		if err != nil || values[0] == "t" {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", sql, ctx.Err())
		case <-ticker.C:
		}
	}
}

// URLOf returns address, which leads to a database on another server, with s in that server's place: on a standby, the
// copy of the primary's database. User, database and run-time parameters are those of address.
func (s *Server) URLOf(address string) (string, error) {
	return redirect(address, s.url)
}
