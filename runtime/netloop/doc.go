// Package netloop drives sockets with event loops while the code that uses them reads as if it blocked.
//
// A Group has one Loop for each CPU. A Loop owns its sockets, timers and tasks, and runs one thing at a time, so
// nothing that belongs to a loop needs a lock. A handler is a Task: it parks in Read, Write, Dial, Sleep, Park and
// Await, and the loop goes on with others until the reason to wait is gone.
//
//	loop goroutine:  epoll_wait → for each event: resume the parked task, or run the idle connection's callback
//	                 → posted functions (from other loops and goroutines) → ready tasks → one that yielded → timers → epoll_wait
//
//	task:            resumed ── runs ── parks (Read would block) ── resumed ── … ── returns ── kept for the next Go
//
// On Linux a task is a coroutine made by iter.Pull: a switch costs tens of nanoseconds and never enters the scheduler.
// Elsewhere, and with the build tag wasmgate_portable, a task is a goroutine that holds the loop's baton while it runs;
// the interface and its promises are the same.
//
// Fairness: what is ready runs in the order in which it became ready, so that a request waits for all that arrived before
// it. Work that takes long, or that becomes ready in crowds, such as guests whose calls were all answered at the same moment,
// yields (Task.Yield, Task.SetPatient): of that, one goes on in each turn, or one for each eight events in it. Beside a crowd
// of 112 guests that wait for the same slow service, requests of another route took 2.4 to 3.9 ms (p99) without it and 1.1 to
// 1.4 ms with it, alone 0.5 to 0.8 ms.
//
// An idle connection (OnEvent) holds no task and no buffer. Reads that are known to block park at once: the sockets
// are registered once, edge-triggered, and a short read tells that a socket is drained, so that a request costs no
// system call beyond its reads and writes.
//
// The package knows no protocol. It imports nothing of ours, and golang.org/x/sys/unix for what package syscall lacks.
//
// # Rules for users
//
// Everything of a Loop, and every Conn, Timer and Task of it, may be used only on that loop: inside a task, a posted
// function, or a callback. The exceptions say so: Loop.Post, Group's methods, and Listener.Close. Code on a loop must
// never block on a mutex, channel, file or name look-up; Task.Await is for that.
package netloop
