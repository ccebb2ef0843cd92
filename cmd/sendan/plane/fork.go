package plane

import (
	"os/exec"
	"runtime"
	"sync"
)

// forker starts processes from one OS thread that lives as long as it does. Linux ends a child with
// the thread that forked it (see childAttributes), and the Go runtime may end any other thread.
type forker struct {
	work chan func()
	end  func()
}

func newForker() *forker {
	f := &forker{work: make(chan func())}
	f.end = sync.OnceFunc(func() { close(f.work) })
	go func() {
		runtime.LockOSThread()
		for do := range f.work {
			do()
		}
	}()
	return f
}

func (f *forker) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	f.work <- func() { result <- cmd.Start() }
	return <-result
}

// close may be called once nothing is started any more.
func (f *forker) close() { f.end() }
