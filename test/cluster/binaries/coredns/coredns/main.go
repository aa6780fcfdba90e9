// SPDX-License-Identifier: Apache-2.0

// The name server of the test cluster: CoreDNS with the three plugins that it needs, so that it builds in seconds instead of minutes.
package main

import (
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
)

func init() {
	// The order in which a query passes them.
	dnsserver.Directives = []string{"errors", "cache", "kubernetes"}
}

func main() {
	coremain.Run()
}
