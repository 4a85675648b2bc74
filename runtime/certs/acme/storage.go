package acme

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"golang.org/x/sys/unix"

	"wasmgate/runtime/internal/private"
)

// lockPoll is how often a lock is tried for that somebody else has.
const lockPoll = 100 * time.Millisecond

// folder is where everything is kept, laid out as certmagic does. Its locks are those of the kernel, which end with the
// process that has them; certmagic's own are files that have to be kept fresh.
type folder struct {
	*certmagic.FileStorage

	mu   sync.Mutex
	held map[string]*os.File
}

func openFolder(dir string) (*folder, error) {
	if dir == "" {
		return nil, errors.New("certificates need a folder to be stored in")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder for certificates: %w", err)
	}
	if err := private.Folder(dir); err != nil {
		return nil, fmt.Errorf("the folder for certificates has keys in it: %w", err)
	}
	return &folder{FileStorage: &certmagic.FileStorage{Path: dir}, held: map[string]*os.File{}}, nil
}

// Lock waits until nobody else has the lock.
func (f *folder) Lock(ctx context.Context, name string) error {
	for {
		if ok, err := f.TryLock(ctx, name); ok || err != nil {
			return err
		}
		timer := time.NewTimer(lockPoll)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// TryLock takes a lock that nobody has.
func (f *folder) TryLock(_ context.Context, name string) (bool, error) {
	p := f.Filename(path.Join("locks", certmagic.StorageKeys.Safe(name)+".lock"))
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return false, err
	}
	file, err := os.OpenFile(p, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return false, fmt.Errorf("locking %s: %w", p, err)
	}
	f.mu.Lock()
	f.held[name] = file
	f.mu.Unlock()
	return true, nil
}

// Unlock gives a lock back. Its file stays, for whoever waits for it.
func (f *folder) Unlock(_ context.Context, name string) error {
	f.mu.Lock()
	file := f.held[name]
	delete(f.held, name)
	f.mu.Unlock()
	if file == nil {
		return fmt.Errorf("the lock %s is not held", name)
	}
	return file.Close()
}

// close gives back what is left.
func (f *folder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, file := range f.held {
		file.Close()
		delete(f.held, name)
	}
}

// errBroken is a certificate in the folder that cannot be used.
var errBroken = errors.New("broken")

// certificate reads what is stored for a name. It is nil if there is nothing; an error wraps errBroken if there is, and it
// is of no use.
func (f *folder) certificate(issuer, name string) (*tls.Certificate, error) {
	var parts [3][]byte
	for i, key := range [...]string{
		certmagic.StorageKeys.SitePrivateKey(issuer, name), certmagic.StorageKeys.SiteCert(issuer, name), certmagic.StorageKeys.SiteMeta(issuer, name),
	} {
		b, err := f.Load(context.Background(), key)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		parts[i] = b
	}
	cert, err := tls.X509KeyPair(parts[1], parts[0])
	if err == nil {
		err = cert.Leaf.VerifyHostname(name)
	}
	if err == nil {
		err = json.Unmarshal(parts[2], &certmagic.CertificateResource{})
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.Filename(certmagic.StorageKeys.CertsSitePrefix(issuer, name)), errBroken, err)
	}
	return &cert, nil
}

// setAside moves what is stored for a name out of the way if it is broken, and says where it is now, and what is wrong with
// it. What was set aside before is deleted. While somebody writes there it is left alone: key and certificate are two files.
func (f *folder) setAside(ctx context.Context, issuer, name string) (where string, why, err error) {
	if _, why = f.certificate(issuer, name); !errors.Is(why, errBroken) {
		return "", nil, nil // the library says what else is wrong
	}
	lock := "issue_cert_" + name // certmagic's
	if ok, err := f.TryLock(ctx, lock); !ok || err != nil {
		return "", nil, err
	}
	defer func() { _ = f.Unlock(ctx, lock) }()
	if _, why = f.certificate(issuer, name); !errors.Is(why, errBroken) {
		return "", nil, nil
	}
	where, err = f.aside(certmagic.StorageKeys.CertsSitePrefix(issuer, name))
	return where, why, err
}

func (f *folder) aside(key string) (where string, err error) {
	from := f.Filename(key)
	where = from + ".broken"
	if err := os.RemoveAll(where); err != nil {
		return "", err
	}
	return where, os.Rename(from, where)
}
