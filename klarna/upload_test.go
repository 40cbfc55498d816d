package klarna

import (
	"context"
	"errors"
	"io"
	"testing"
)

// A connection can come to hand after the try has ended, and a transport can replay what it has sent: neither may get the body.
func TestUploadAfterTheEnd(t *testing.T) {
	t.Parallel()
	u := &upload{ctx: context.Background(), content: []byte("order")}
	reader := u.reader()
	if sent, _ := u.end(); sent {
		t.Error("sent, though nothing was read")
	}
	if n, err := reader.Read(make([]byte, 8)); n != 0 || !errors.Is(err, errOver) {
		t.Errorf("read %d bytes after the end, error %v", n, err)
	}
	if _, err := u.again(); !errors.Is(err, errReplayed) {
		t.Errorf("replay after the end: error %v", err)
	}
}

func TestUploadEndsWhileBeforeSendIsAsked(t *testing.T) {
	t.Parallel()
	u := &upload{ctx: context.Background(), content: []byte("order")}
	u.beforeSend = func() error {
		if sent, _ := u.end(); sent {
			t.Error("sent, though nothing was handed over")
		}
		return nil
	}
	if n, err := u.reader().Read(make([]byte, 8)); n != 0 || err == nil {
		t.Errorf("read %d bytes of a try that was reported as not sent", n)
	}
}

func TestUploadIsReplayedOnlyUnread(t *testing.T) {
	t.Parallel()
	asked := 0
	u := &upload{ctx: context.Background(), content: []byte("order"), beforeSend: func() error { asked++; return nil }}
	second, err := u.again()
	if err != nil {
		t.Fatalf("replay of a body that was not read: %v", err)
	}
	text, err := io.ReadAll(second)
	if err != nil || string(text) != "order" || asked != 1 {
		t.Errorf("read %q, error %v, asked %d times", text, err, asked)
	}
	if _, err := u.again(); !errors.Is(err, errReplayed) {
		t.Errorf("replay of a body that was handed over: error %v", err)
	}
	if sent, _ := u.end(); !sent {
		t.Error("not sent, though the body was handed over")
	}
}
