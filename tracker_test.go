package pgcmd

import (
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestTheLeakWatchNamesACommandOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		k := newTracker(zap.New(core))
		stop := make(chan struct{})
		go k.watch(stop)
		defer close(stop)
		leak, quick := "orders.leak", "orders.quick"
		var leaking, busy, unused netConn
		for _, w := range []*netConn{&leaking, &busy, &unused} {
			k.made(w)
		}
		leaking.markAcquired(&leak)
		for range 20 { // five minutes
			busy.markAcquired(&quick)
			time.Sleep(10 * time.Second)
			busy.markReleased()
			time.Sleep(5 * time.Second)
		}
		lines := logs.AllUntimed()
		if assert.Len(t, lines, 1) {
			fields := lines[0].ContextMap()
			assert.Equal(t, leak, fields["command"])
			assert.GreaterOrEqual(t, fields["held"], leakTime)
			assert.Less(t, fields["held"], leakTime+leakTime/3)
		}
		leaking.markReleased()
		leaking.markAcquired(&leak) // another leak of the same command's
		time.Sleep(2 * leakTime)
		assert.Equal(t, 2, logs.Len())
	})
}

// pgx leaves a reader behind on a connection whose write was slow: the look at the
// socket must not wait for it.
func TestTheLookAtASocketWaitsForNobody(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	client, err := net.Dial("tcp4", listener.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	server, err := listener.Accept()
	require.NoError(t, err)
	defer server.Close()
	raw, err := client.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	inside, release, done := make(chan bool), make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		_ = raw.Read(func(uintptr) bool { close(inside); <-release; return true })
	}()
	<-inside
	look := newSocketPeeker(client)
	assert.True(t, look.isIdle(), "nothing has come")
	_, err = server.Write([]byte("E"))
	require.NoError(t, err)
	for look.isIdle() { // until it has come
	}
	close(release)
	<-done
}
