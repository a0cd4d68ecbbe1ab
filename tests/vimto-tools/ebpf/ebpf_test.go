// Programs that are loaded, attached and run in the kernel of a VM, and the maps they fill.
package ebpf

import (
	"net"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
)

func TestMain(m *testing.M) {
	if err := rlimit.RemoveMemlock(); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func newMap(t *testing.T, spec ebpf.MapSpec) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// A program that counts its runs in the first element of an array and returns `result`.
func newCounter(t *testing.T, spec ebpf.ProgramSpec, result int32) (*ebpf.Program, *ebpf.Map) {
	t.Helper()
	counts := newMap(t, ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	spec.License = "GPL"
	spec.Instructions = asm.Instructions{
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, result).WithSymbol("out"),
		asm.Return(),
	}
	program, err := ebpf.NewProgram(&spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { program.Close() })
	return program, counts
}

func checkCounts(t *testing.T, l link.Link, err error, counts *ebpf.Map, act func()) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var before, after, late uint64
	count := func(n *uint64) {
		if err := counts.Lookup(uint32(0), n); err != nil {
			t.Fatal(err)
		}
	}
	count(&before)
	for i := 0; i < 10; i++ {
		act()
	}
	count(&after)
	if after < before+10 {
		t.Fatalf("counted %d of 10", after-before)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	count(&before)
	act()
	if count(&late); late != before {
		t.Fatalf("%d runs after it was detached", late-before)
	}
}

func TestMaps(t *testing.T) {
	for _, kind := range []ebpf.MapType{ebpf.Hash, ebpf.LRUHash} {
		m := newMap(t, ebpf.MapSpec{Type: kind, KeySize: 4, ValueSize: 8, MaxEntries: 4096})
		for i := uint32(0); i < 1000; i++ {
			if err := m.Put(i, uint64(i)*3); err != nil {
				t.Fatal(err)
			}
		}
		var key uint32
		var value, sum uint64
		entries := m.Iterate()
		for entries.Next(&key, &value) {
			sum += value
		}
		if entries.Err() != nil || sum != 3*999*1000/2 {
			t.Fatal(kind, sum, entries.Err())
		}
		if err := m.Delete(uint32(7)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPinned(t *testing.T) {
	m := newMap(t, ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err := m.Pin("/sys/fs/bpf/pinned"); err != nil {
		t.Fatal(err)
	}
	defer m.Unpin()
	again, err := ebpf.LoadPinnedMap("/sys/fs/bpf/pinned", nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestKprobe(t *testing.T) {
	program, counts := newCounter(t, ebpf.ProgramSpec{Type: ebpf.Kprobe}, 0)
	l, err := link.Kprobe("__x64_sys_getpriority", program, nil)
	checkCounts(t, l, err, counts, getpriority)
}

func TestKretprobe(t *testing.T) {
	program, counts := newCounter(t, ebpf.ProgramSpec{Type: ebpf.Kprobe}, 0)
	l, err := link.Kretprobe("__x64_sys_getpriority", program, nil)
	checkCounts(t, l, err, counts, getpriority)
}

func TestTracepoint(t *testing.T) {
	program, counts := newCounter(t, ebpf.ProgramSpec{Type: ebpf.TracePoint}, 0)
	l, err := link.Tracepoint("sched", "sched_process_fork", program, nil)
	checkCounts(t, l, err, counts, fork)
}

func TestSyscallTracepoint(t *testing.T) {
	program, counts := newCounter(t, ebpf.ProgramSpec{Type: ebpf.TracePoint}, 0)
	l, err := link.Tracepoint("syscalls", "sys_enter_getpriority", program, nil)
	checkCounts(t, l, err, counts, getpriority)
}

func TestRawTracepoint(t *testing.T) {
	program, counts := newCounter(t, ebpf.ProgramSpec{Type: ebpf.RawTracepoint}, 0)
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sys_enter", Program: program})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	getpriority()
	var n uint64
	if err := counts.Lookup(uint32(0), &n); err != nil || n == 0 {
		t.Fatal(n, err)
	}
}

func TestFentry(t *testing.T) {
	program, counts := newCounter(t, ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry,
		AttachTo: "__x64_sys_getpriority"}, 0)
	l, err := link.AttachTracing(link.TracingOptions{Program: program})
	checkCounts(t, l, err, counts, getpriority)
}

// `go test` strips its programs: a function of the C library, which nice(1) calls.
func TestUprobe(t *testing.T) {
	const libc = "/lib/x86_64-linux-gnu/libc.so.6"
	if _, err := os.Stat(libc); err != nil {
		t.Skip(err)
	}
	program, counts := newCounter(t, ebpf.ProgramSpec{Type: ebpf.Kprobe}, 0)
	library, err := link.OpenExecutable(libc)
	if err != nil {
		t.Fatal(err)
	}
	l, err := library.Uprobe("getpriority", program, nil)
	checkCounts(t, l, err, counts, nice)
}

func TestXDP(t *testing.T) {
	program, counts := newCounter(t, ebpf.ProgramSpec{Type: ebpf.XDP}, 2 /* XDP_PASS */)
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: lo.Index, Flags: link.XDPGenericMode})
	checkCounts(t, l, err, counts, func() { ping(t) })
}

func TestCgroup(t *testing.T) {
	program, counts := newCounter(t, ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress}, 1)
	l, err := link.AttachCgroup(link.CgroupOptions{Path: "/sys/fs/cgroup", Attach: ebpf.AttachCGroupInetEgress, Program: program})
	checkCounts(t, l, err, counts, func() { ping(t) })
}

// A datagram to ourselves.
func ping(t *testing.T) {
	here, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	if _, err := here.WriteTo([]byte("ping"), here.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := here.ReadFrom(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
}

func TestRingbuf(t *testing.T) {
	events := newMap(t, ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: 4096})
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R1, 4711),
		asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, events.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.Mov.Imm(asm.R3, 8),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	reader, err := ringbuf.NewReader(events)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sched_process_fork", Program: program})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fork()
	record, err := reader.Read()
	if err != nil || record.RawSample[0] != 4711&255 {
		t.Fatal(record, err)
	}
}

func TestBTF(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var task *btf.Struct
	if err := spec.TypeByName("task_struct", &task); err != nil || task.Size < 1000 {
		t.Fatal(err)
	}
}
