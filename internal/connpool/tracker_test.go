package connpool

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

func TestALeakIsLoggedOnceWithItsCommand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		tracker := NewTracker(zap.New(core))
		stop := make(chan struct{})
		go tracker.WarnOfLeaks(stop)
		defer close(stop)
		leak, quick := "orders.leak", "orders.quick"
		var leaking, busy, unused Conn
		for _, c := range []*Conn{&leaking, &busy, &unused} {
			tracker.add(c)
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
		leaking.markAcquired(&leak) // another leak of the same command
		time.Sleep(2 * leakTime)
		assert.Equal(t, 2, logs.Len())
	})
}

// After a slow write a background reader of pgx's may be blocked in Read: the check of the
// socket must not wait for it.
func TestTheCheckOfASocketDoesNotWaitForAReader(t *testing.T) {
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
	s := newSocket(client)
	assert.True(t, s.isIdle(), "nothing was sent")
	_, err = server.Write([]byte("E"))
	require.NoError(t, err)
	for s.isIdle() { // until it is received
	}
	close(release)
	<-done
}
