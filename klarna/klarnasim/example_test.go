package klarnasim_test

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// Testing one's own billing system: give it server.URL as Klarna's endpoint, let it renew, and look into the books.
func ExampleStart() {
	server, err := klarnasim.Start(klarnasim.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	for range 3 { // the answer to the first try is lost; the others find the same order
		r, _ := http.NewRequest("POST", server.URL+"/customer-token/v1/tokens/created-500-7/order", strings.NewReader(monthly))
		r.SetBasicAuth("merchant", "api-key")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Klarna-Idempotency-Key", "066fb987-94e8-5d9a-9b0b-0d279f430fd1")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		response.Body.Close()
		fmt.Println(response.Status)
	}
	books := server.Simulator.Books()
	fmt.Println(len(books.Orders), "order after", books.Requests, "requests")
	http.DefaultClient.CloseIdleConnections()

	// Output:
	// 500 Internal Server Error
	// 200 OK
	// 200 OK
	// 1 order after 3 requests
}
