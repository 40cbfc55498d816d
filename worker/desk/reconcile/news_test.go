package reconcile_test

import (
	"errors"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
)

// TestNews: a break is told once, stays closed while it is what it was, and opens again as another.
func TestNews(t *testing.T) {
	js, _ := given(t, 1)
	news, err := reconcile.OpenNews(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	breaks := proven(t, js, 1).Breaks
	publish := func(what string, fresh, open int) {
		t.Helper()
		if told, err := news.Publish(t.Context(), breaks); err != nil || told.New != fresh || len(told.Open) != open {
			t.Errorf("%s: %+v, %v; want %d new of %d open", what, told, err, fresh, open)
		}
	}
	stands := func(want messages.BreakStatus) reconcile.Standing {
		t.Helper()
		found, err := news.Find(t.Context(), breaks[0].ID)
		all, listErr := news.List(t.Context(), "default")
		if err != nil || listErr != nil || found.Status != want || len(all) != 1 || all[0] != found || found.Detail != breaks[0].Detail {
			t.Fatalf("%+v, %v, %+v, %v; want it %s", found, err, all, listErr, want)
		}
		return found
	}
	publish("found", 1, 1)
	publish("found again", 0, 1)
	seen := stands(messages.BreakOpen)
	if err := news.Close(t.Context(), seen, "ada", "refunded", now()); err != nil {
		t.Fatal(err)
	}
	closed := stands(messages.BreakClosed)
	if closed.Actor != "ada" || closed.Note != "refunded" || !closed.At.Equal(now()) || closed.Amount != seen.Amount {
		t.Errorf("closed as %+v", closed)
	}
	if err := news.Close(t.Context(), closed, "bob", "again", now()); err != nil || stands(messages.BreakClosed) != closed {
		t.Errorf("closed again: %v, %+v", err, stands(messages.BreakClosed))
	}
	if err := news.Close(t.Context(), seen, "bob", "as it was before", now()); !errors.Is(err, reconcile.ErrMoved) || stands(messages.BreakClosed) != closed {
		t.Errorf("closed as it was seen before somebody else closed it: %v", err)
	}
	publish("closed, and the same", 0, 0)
	breaks[0].Amount++
	publish("closed, and another by now", 1, 1)
	stands(messages.BreakOpen)
	if none, err := news.Find(t.Context(), messages.NewBreakID(messages.BreakMissing, "default", "x")); err != nil || none.Sequence != 0 {
		t.Errorf("what nobody has told of: %+v, %v", none, err)
	}
	if all, err := news.List(t.Context(), "other"); err != nil || len(all) != 0 {
		t.Errorf("another account's: %+v, %v", all, err)
	}
}
