package klarnasim

import (
	"math"
	"strconv"
	"time"
)

// Randomness is a function of the seed and of what it is for, so that neither the number of connections nor their order
// changes what a key meets.

// mix is the finalizer of SplitMix64 over both words.
func mix(a, b uint64) uint64 {
	x := a*0x9e3779b97f4a7c15 + b
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func mixString(seed uint64, s string) uint64 {
	for i := range len(s) {
		seed = mix(seed, uint64(s[i]))
	}
	return seed
}

// share is x as a number from 0 to below 1.
func share(x uint64) float64 { return float64(x>>11) / (1 << 53) }

// uuid looks like a random one and ends in the number n, so that an order is found without an index.
func uuid(seed, n uint64, kind byte) string {
	const digits = "0123456789abcdef"
	text := []byte("00000000-0000-4000-a000-000000000000")
	x := mix(mix(seed, uint64(kind)), n)
	for _, i := range [...]int{0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 15, 16, 17} {
		text[i] = digits[x&15]
		x >>= 4
	}
	for i := 35; i >= 24; i-- {
		text[i] = digits[n&15]
		n >>= 4
	}
	return string(text)
}

// number is the n of a uuid.
func number(id string) (uint64, bool) {
	if len(id) != 36 {
		return 0, false
	}
	n, err := strconv.ParseUint(id[24:], 16, 64)
	return n, err == nil
}

// latency draws from a log-normal distribution with the wanted median and 99th percentile.
func latency(o *Options, serial uint64) time.Duration {
	if o.LatencyP99 <= o.Latency || o.Latency <= 0 {
		return o.Latency
	}
	const z99 = 2.3263478740408408 // 99 % of a normal distribution lie below
	sigma := math.Log(float64(o.LatencyP99)/float64(o.Latency)) / z99
	x := mix(o.Seed, serial)
	u, v := 1-share(x), share(mix(x, 1))
	normal := math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v)
	return time.Duration(float64(o.Latency) * math.Exp(sigma*normal))
}
