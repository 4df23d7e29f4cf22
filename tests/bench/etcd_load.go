// SPDX-License-Identifier: Apache-2.0
// etcd_load DEPTH SECONDS CA CERT KEY ENDPOINT…: keeps DEPTH puts of 256 bytes under way and prints commits a second and latencies
// in microseconds: "per_s p50 p99 p999".
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/ioutil"
	"log"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
)

func main() {
	depth, _ := strconv.Atoi(os.Args[1])
	seconds, _ := strconv.ParseFloat(os.Args[2], 64)
	config := clientv3.Config{Endpoints: os.Args[6:], DialTimeout: 5 * time.Second}
	if os.Args[3] != "-" {
		pem, err := ioutil.ReadFile(os.Args[3])
		if err != nil {
			log.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		pair, err := tls.LoadX509KeyPair(os.Args[4], os.Args[5])
		if err != nil {
			log.Fatal(err)
		}
		config.TLS = &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}
	}
	client, err := clientv3.New(config)
	if err != nil {
		log.Fatal(err)
	}
	value := string(make([]byte, 256))
	begin := time.Now().Add(time.Second / 2)
	end := begin.Add(time.Duration(seconds * float64(time.Second)))
	var lock sync.Mutex
	var took []float64
	var group sync.WaitGroup
	for i := 0; i < depth; i++ {
		group.Add(1)
		go func(key string) {
			defer group.Done()
			for time.Now().Before(end) {
				since := time.Now()
				if _, err := client.Put(context.Background(), key, value); err != nil {
					log.Fatal(err)
				}
				if since.After(begin) {
					lock.Lock()
					took = append(took, float64(time.Since(since).Nanoseconds())/1000)
					lock.Unlock()
				}
			}
		}(fmt.Sprintf("key-%d", i))
	}
	group.Wait()
	sort.Float64s(took)
	at := func(q float64) float64 { return took[int(float64(len(took)-1)*q)] }
	fmt.Printf("%.1f %.1f %.1f %.1f\n", float64(len(took))/seconds, at(0.5), at(0.99), at(0.999))
}
