// The life of a microVM as Firecracker's own Go SDK drives it: configure, start, metadata, changes while it runs,
// pause, snapshot, stop, restore, stop.  Or a shorter one in a jail.
//
// Arguments: binary, engine, folder, kernel, initrd, root, kernel arguments, TAP ("" for none), and for the
// jail: the jailer, a user's number.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	firecracker "github.com/firecracker-microvm/firecracker-go-sdk"
	"github.com/firecracker-microvm/firecracker-go-sdk/client/models"
	"github.com/firecracker-microvm/firecracker-go-sdk/vsock"
)

type arguments struct {
	binary, engine, folder, kernel, initrd, root, kernelArgs, tap string
}

func must(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
	fmt.Println("done:", what)
}

func command(ctx context.Context, a arguments, socket, id string, console *os.File) firecracker.Opt {
	cmd := firecracker.VMCommandBuilder{}.
		WithBin(a.binary).
		WithSocketPath(socket).
		WithArgs([]string{"--id", id, "--engine", a.engine}).
		WithStdout(console).
		WithStderr(os.Stderr).
		Build(ctx)
	cmd.Dir = a.folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // whatever happens to us
	return firecracker.WithProcessRunner(cmd)
}

func waitFor(path, text string) error {
	for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), text) {
			return nil
		}
	}
	return fmt.Errorf("%q did not come", text)
}

func echo(ctx context.Context, path, text string) error {
	conn, err := vsock.DialContext(ctx, path, 5000)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err = conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err = fmt.Fprintln(conn, text); err != nil {
		return err
	}
	got, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && got != text+"\n" {
		err = fmt.Errorf("%q came back", got)
	}
	return err
}

func config(a arguments, socket string) firecracker.Config {
	cfg := firecracker.Config{
		SocketPath:      socket,
		LogPath:         filepath.Join(a.folder, "fc.log"),
		LogLevel:        "Debug",
		MetricsPath:     filepath.Join(a.folder, "fc.metrics"),
		KernelImagePath: a.kernel,
		InitrdPath:      a.initrd,
		KernelArgs:      a.kernelArgs,
		Drives:          firecracker.NewDrivesBuilder(a.root).AddDrive(filepath.Join(a.folder, "data"), false).Build(),
		MachineCfg: models.MachineConfiguration{
			VcpuCount: firecracker.Int64(1), MemSizeMib: firecracker.Int64(128), Smt: firecracker.Bool(false),
			TrackDirtyPages: true,
		},
		VsockDevices: []firecracker.VsockDevice{{ID: "v", Path: filepath.Join(a.folder, "v.sock"), CID: 3}},
		MmdsVersion:  firecracker.MMDSv2,
		VMID:         "sdk-test",
	}
	if a.tap != "" {
		cfg.NetworkInterfaces = firecracker.NetworkInterfaces{{
			StaticConfiguration: &firecracker.StaticNetworkConfiguration{MacAddress: "06:00:ac:10:00:02", HostDevName: a.tap},
			AllowMMDS:           true,
		}}
		cfg.MmdsAddress = net.IPv4(169, 254, 169, 254)
	}
	return cfg
}

func firstLife(ctx context.Context, a arguments) {
	socket := filepath.Join(a.folder, "first.sock")
	consolePath := filepath.Join(a.folder, "console")
	console, err := os.Create(consolePath)
	must("console", err)
	m, err := firecracker.NewMachine(ctx, config(a, socket), command(ctx, a, socket, "sdk-test", console))
	must("new machine", err)
	m.Handlers.FcInit = m.Handlers.FcInit.AppendAfter(firecracker.CreateMachineHandlerName,
		firecracker.NewCreateBalloonHandler(8, true, 1))
	must("start", m.Start(ctx))
	must("guest", waitFor(consolePath, "GUEST-READY"))
	info, err := m.DescribeInstanceInfo(ctx)
	must("describe", err)
	if *info.State != "Running" || *info.ID != "sdk-test" || *info.AppName != "Firecracker" {
		must("instance info", fmt.Errorf("%v", info))
	}
	version, err := m.GetFirecrackerVersion(ctx)
	must("version "+version, err)
	must("vsock", echo(ctx, filepath.Join(a.folder, "v.sock"), "hello"))
	if a.tap != "" {
		must("set metadata", m.SetMetadata(ctx, map[string]string{"key": "value"}))
		must("update metadata", m.UpdateMetadata(ctx, map[string]string{"other": "thing"}))
		got := map[string]string{}
		must("get metadata", m.GetMetadata(ctx, &got))
		if got["key"] != "value" || got["other"] != "thing" {
			must("metadata", fmt.Errorf("%v", got))
		}
		must("update network", m.UpdateGuestNetworkInterfaceRateLimit(ctx, "1", firecracker.RateLimiterSet{
			InRateLimiter: firecracker.NewRateLimiter(firecracker.TokenBucketBuilder{}.WithBucketSize(1<<20).
				WithRefillDuration(time.Second).Build(),
				firecracker.TokenBucketBuilder{}.WithBucketSize(1000).WithRefillDuration(time.Second).Build()),
		}))
	}
	must("update drive", m.UpdateGuestDrive(ctx, "0", filepath.Join(a.folder, "data2")))
	_, err = m.GetBalloonConfig(ctx)
	must("balloon", err)
	must("update balloon", m.UpdateBalloon(ctx, 4))
	must("pause", m.PauseVM(ctx))
	must("snapshot", m.CreateSnapshot(ctx, filepath.Join(a.folder, "mem"), filepath.Join(a.folder, "state")))
	must("resume", m.ResumeVM(ctx))
	must("vsock after resume", echo(ctx, filepath.Join(a.folder, "v.sock"), "still here"))
	must("stop", m.StopVMM())
	if err = m.Wait(ctx); err == nil || !strings.Contains(err.Error(), "terminated") {
		must("wait for SIGTERM", fmt.Errorf("ended with %v", err))
	}
}

func secondLife(ctx context.Context, a arguments) {
	socket := filepath.Join(a.folder, "second.sock")
	console, err := os.Create(filepath.Join(a.folder, "console2"))
	must("console", err)
	must("remove the vsock's socket", os.Remove(filepath.Join(a.folder, "v.sock")))
	cfg := config(a, socket)
	cfg.VsockDevices = nil
	m, err := firecracker.NewMachine(ctx, cfg, command(ctx, a, socket, "sdk-clone", console),
		firecracker.WithSnapshot(filepath.Join(a.folder, "mem"), filepath.Join(a.folder, "state")))
	must("new machine from the snapshot", err)
	must("load", m.Start(ctx))
	must("resume the clone", m.ResumeVM(ctx))
	must("vsock of the clone", echo(ctx, filepath.Join(a.folder, "v.sock"), "again"))
	must("ctrl-alt-del", m.Shutdown(ctx))
	must("wait", m.Wait(ctx))
}

// The SDK puts the files into the jail, as links, and names no engine.
func jailedLife(ctx context.Context, a arguments, jailer string, uid int) {
	consolePath := filepath.Join(a.folder, "console")
	console, err := os.Create(consolePath)
	must("console", err)
	m, err := firecracker.NewMachine(ctx, firecracker.Config{
		KernelImagePath: a.kernel,
		InitrdPath:      a.initrd,
		KernelArgs:      a.kernelArgs,
		Drives:          firecracker.NewDrivesBuilder(a.root).Build(),
		MachineCfg:      models.MachineConfiguration{VcpuCount: firecracker.Int64(1), MemSizeMib: firecracker.Int64(128)},
		VsockDevices:    []firecracker.VsockDevice{{ID: "v", Path: "/run/v.sock", CID: 3}},
		Seccomp:         firecracker.SeccompConfig{Enabled: true},
		JailerCfg: &firecracker.JailerConfig{
			UID: &uid, GID: &uid, ID: "sdk-jailed", NumaNode: firecracker.Int(0), ExecFile: a.binary,
			JailerBinary: jailer, ChrootBaseDir: a.folder, Stdout: console, Stderr: os.Stderr,
			ChrootStrategy: firecracker.NewNaiveChrootStrategy(a.kernel),
		},
	})
	must("new machine", err)
	must("start", m.Start(ctx))
	must("guest", waitFor(consolePath, "GUEST-READY"))
	vsockPath := filepath.Join(a.folder, filepath.Base(a.binary), "sdk-jailed", "root", "run", "v.sock")
	must("vsock", echo(ctx, vsockPath, "hello"))
	must("ctrl-alt-del", m.Shutdown(ctx))
	must("wait", m.Wait(ctx))
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	v := os.Args[1:]
	a := arguments{v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]}
	if len(v) > 9 {
		uid, err := strconv.Atoi(v[9])
		must("user", err)
		jailedLife(ctx, a, v[8], uid)
		return
	}
	firstLife(ctx, a)
	secondLife(ctx, a)
}
