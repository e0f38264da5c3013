// The one program of the embedded cluster's own image.
//
// Called as anything but "volume" it is the sandbox process of a pod: it holds the pod's namespaces until it is told to stop.
// Called as "volume" it is the helper of local-path-provisioner, which makes and removes the folder behind a volume.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	if filepath.Base(os.Args[0]) != "volume" {
		pause()
		return
	}
	if err := volume(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pause waits for the signal to stop and meanwhile reaps what a shared process namespace leaves to process 1.
func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			reaped, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if err != nil || reaped <= 0 {
				break
			}
		}
	}
}

// volume takes the arguments that local-path-provisioner gives its helper: -p path -s bytes -m mode -a create|delete.
func volume(arguments []string) error {
	flags := flag.NewFlagSet("volume", flag.ContinueOnError)
	path := flags.String("p", "", "folder of the volume")
	action := flags.String("a", "", "create or delete")
	flags.Int64("s", 0, "size in bytes; folders have none")
	flags.String("m", "", "volume mode; only file systems are made")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if !filepath.IsAbs(*path) || filepath.Clean(*path) == "/" {
		return fmt.Errorf("refusing the path %q", *path)
	}
	switch *action {
	case "create":
		if err := os.MkdirAll(*path, 0o777); err != nil {
			return err
		}
		// Chmod, because the mode above is cut by the umask and a pod's user is not known here.
		return os.Chmod(*path, 0o777)
	case "delete":
		return os.RemoveAll(*path)
	default:
		return fmt.Errorf("unknown action %q", *action)
	}
}
