package messages

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// NewMessage checks a job and makes the message to publish, for those who publish in their own way; [Publish] does both.
// Options, such as [Stamped], alter the job before. The error is an [*InvalidError], or says what is wrong with the account.
func NewMessage(account Account, job Job, options ...Option) (*nats.Msg, error) {
	return Rules{}.NewMessage(account, job, options...)
}

// NewMessage is the function [NewMessage] by an account's own rules.
func (rules Rules) NewMessage(account Account, job Job, options ...Option) (*nats.Msg, error) {
	if _, err := ParseAccount(string(account)); err != nil {
		return nil, err
	}
	for _, alter := range options {
		alter(&job)
	}
	payload, _, err := job.encodeValid(rules)
	if err != nil {
		return nil, err
	}
	return &nats.Msg{
		Subject: DueSubject(account),
		Header:  nats.Header{HeaderMsgID: {string(job.ID)}, headerContentType: {contentType}},
		Data:    payload,
	}, nil
}

// NewCaptureMessage is [NewMessage] for a capture job, whose ID no job may have: see [PublishCapture].
func NewCaptureMessage(account Account, capture Capture) (*nats.Msg, error) {
	if _, err := ParseAccount(string(account)); err != nil {
		return nil, err
	}
	payload, _, err := capture.encodeValid()
	if err != nil {
		return nil, err
	}
	return &nats.Msg{
		Subject: CaptureSubject(account),
		Header:  nats.Header{HeaderMsgID: {string(capture.ID)}, headerContentType: {contentType}},
		Data:    payload,
	}, nil
}

// Publish checks a job and publishes it, with its ID as Nats-Msg-Id.
//
// After an [*InvalidError] nothing was published. After any other error the job may have been stored: publish it again
// with the same ID, which is safe at any time.
//
// PubAck.Duplicate says that the stream has seen this ID within the last hour and dropped the job. That is right for a
// job published twice. But the stream looks at the ID alone, whatever the subject: a job for another account under an ID
// in use is dropped as well and will never be charged. Whoever did not mean to repeat a job gives it an ID of its own.
func Publish(ctx context.Context, js jetstream.JetStream, account Account, job Job) (*jetstream.PubAck, error) {
	m, err := NewMessage(account, job)
	if err != nil {
		return nil, fmt.Errorf("publish job: %w", err)
	}
	ack, err := js.PublishMsg(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("publish job %q: %w", job.ID, err)
	}
	return ack, nil
}

// PublishCapture checks a capture job and publishes it, with its ID as Nats-Msg-Id. Its errors and PubAck.Duplicate mean
// what they mean for [Publish]. Jobs and capture jobs are in one stream, which has one table of duplicates: under the ID of
// the job that made the order the capture would be dropped for an hour, so it needs one of its own.
func PublishCapture(ctx context.Context, js jetstream.JetStream, account Account, capture Capture) (*jetstream.PubAck, error) {
	m, err := NewCaptureMessage(account, capture)
	if err != nil {
		return nil, fmt.Errorf("publish capture: %w", err)
	}
	ack, err := js.PublishMsg(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("publish capture %q: %w", capture.ID, err)
	}
	return ack, nil
}
