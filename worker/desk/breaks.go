package desk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// breakFilter matches the breaks among the news.
var breakFilter = messages.BreakSubject("*", "*", "*")

// Breaks counts those that are open. It keeps no break, only where one is open, and reads RENEWAL_NEWS on from where it was. The zero
// value has read nothing.
type Breaks struct {
	next    uint64
	created time.Time         // of the stream that was read
	open    map[string]uint64 // subject, and the sequence of its last message
	// Unread is how many messages were left, at most: the counts are of those before.
	Unread uint64
}

// Read takes in at most so many messages. Where there is no stream, as provisioning of an earlier edition made none, nothing is open.
func (b *Breaks) Read(ctx context.Context, js jetstream.JetStream, most int) error {
	stream, err := js.Stream(ctx, messages.StreamNews)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		*b = Breaks{}
		return nil
	}
	if err != nil {
		return fmt.Errorf("bind stream %s: %w", messages.StreamNews, err)
	}
	info := stream.CachedInfo()
	if !info.Created.Equal(b.created) || b.next > info.State.LastSeq+1 { // another one, or set back
		*b = Breaks{created: info.Created, next: 1, open: map[string]uint64{}}
	}
	maps.DeleteFunc(b.open, func(_ string, sequence uint64) bool { return sequence < info.State.FirstSeq })
	for ; most > 0 && b.next <= info.State.LastSeq; most-- {
		m, err := stream.GetMsg(ctx, b.next, jetstream.WithGetMsgSubject(breakFilter))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			b.next = info.State.LastSeq + 1
			break
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", messages.StreamNews, err)
		}
		b.next = m.Sequence + 1
		b.note(m)
	}
	b.Unread = info.State.LastSeq + 1 - min(b.next, info.State.LastSeq+1)
	return nil
}

// note keeps whether a message leaves a break open. One that cannot be read does: somebody has to look.
func (b *Breaks) note(m *jetstream.RawStreamMsg) {
	var said struct{ Status messages.BreakStatus }
	if err := json.Unmarshal(m.Data, &said); err == nil && said.Status == messages.BreakClosed {
		delete(b.open, m.Subject)
		return
	}
	b.open[m.Subject] = m.Sequence
}

// Open counts the open ones by account and kind.
func (b *Breaks) Open() map[messages.Account]map[messages.BreakKind]int {
	open := map[messages.Account]map[messages.BreakKind]int{}
	for subject := range b.open {
		kind, _, account, err := messages.ParseBreakSubject(subject)
		if err != nil {
			continue // nobody who may publish them writes such a subject, and the account is not known
		}
		if open[account] == nil {
			open[account] = map[messages.BreakKind]int{}
		}
		open[account][kind]++
	}
	return open
}

// mostNews is how many messages are read of RENEWAL_NEWS for a look.
const mostNews = 5000

// breaks takes in which are open.
func (o *Overview) breaks(ctx context.Context, js jetstream.JetStream) error {
	var b Breaks
	if err := b.Read(ctx, js, mostNews); err != nil {
		return err
	}
	o.NewsUnread = b.Unread
	for name, kinds := range b.Open() {
		i, known := slices.BinarySearchFunc(o.Accounts, name, func(a AccountOverview, name messages.Account) int { return cmp.Compare(a.Name, name) })
		if !known {
			o.Accounts = slices.Insert(o.Accounts, i, AccountOverview{Name: name, blind: o.WorkersUnknown})
		}
		o.Accounts[i].Breaks = kinds
	}
	return nil
}
