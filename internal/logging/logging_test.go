package logging_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgcmd/pgcmd/internal/logging"
)

// The lines are those that zap's own functions write.
func TestLinesAreThoseOfZap(t *testing.T) {
	t.Parallel()
	core, ours := observer.New(zapcore.InfoLevel)
	l := logging.OrNone(zap.New(core).Named("pool"))
	logging.Info(l, "one", logging.String("s", "a"), logging.Int("i", 7), logging.Int("j", int32(-7)), logging.Int("k", int64(7)))
	logging.Warn(l, "two", logging.Duration("d", time.Second), logging.True("b"))
	l.Check(zapcore.DebugLevel, "below").Write()

	core, theirs := observer.New(zapcore.InfoLevel)
	z := zap.New(core).Named("pool")
	z.Info("one", zap.String("s", "a"), zap.Int("i", 7), zap.Int64("j", -7), zap.Int64("k", 7))
	z.Warn("two", zap.Duration("d", time.Second), zap.Bool("b", true))

	want, got := theirs.AllUntimed(), ours.AllUntimed()
	assert.Equal(t, want, got)
	assert.Equal(t, "pool", got[0].LoggerName)
}

func TestNoLoggerLogsNothing(t *testing.T) {
	t.Parallel()
	for _, l := range []logging.Logger{nil, (*zap.Logger)(nil)} {
		none := logging.OrNone(l)
		assert.True(t, logging.IsNone(none))
		logging.Info(none, "nothing")
	}
	assert.False(t, logging.IsNone(logging.OrNone(zap.NewNop())))
}
