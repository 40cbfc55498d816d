package klarnasim

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// spend takes one request from the merchant's quota of this second.
func (s *Simulator) spend(r *request) quota {
	if r.options.Rate <= 0 {
		return quota{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	second := int64(s.now()) / int64(time.Second)
	current := s.windows[r.username]
	if current == nil || current.second != second {
		current = &window{second: second}
		s.windows[r.username] = current
	}
	current.used++
	return quota{
		rate:      r.options.Rate,
		remaining: max(0, r.options.Rate-current.used),
		exceeded:  current.used > r.options.Rate,
	}
}

func (q quota) describe(header http.Header) {
	if q.rate == 0 {
		return
	}
	header.Set("X-Ratelimit-Limit", fmt.Sprintf("%d, %d;w=1", q.rate, q.rate))
	header.Set("X-Ratelimit-Remaining", strconv.Itoa(q.remaining))
	header.Set("X-Ratelimit-Reset", "1")
}
