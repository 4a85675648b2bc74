package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"wasmgate/runtime/internal/testkit"
)

// assets is how many things a page is made of.
const assets = 200

// gallery is a page of scripts, styles and images, each of which says its number.
func gallery(t *testing.T) *httptest.Server {
	t.Helper()
	var page strings.Builder
	page.WriteString("<!doctype html><title>gallery</title><link rel=icon href='data:,'><script>window.told = {}</script>")
	for i := range assets {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&page, "<script async src=/asset/%d.js></script>", i)
		case 1:
			fmt.Fprintf(&page, "<link rel=stylesheet href=/asset/%d.css>", i)
		default:
			fmt.Fprintf(&page, "<img src=/asset/%d.svg>", i)
		}
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		name, kind, asset := strings.Cut(strings.TrimPrefix(r.URL.Path, "/asset/"), ".")
		if !asset {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte(page.String()))
			return
		}
		n, _ := strconv.Atoi(name)
		ballast := strings.Repeat("x", n*100) // up to 20 KB
		switch kind {
		case "js":
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprintf(w, "/* %s */ told[%d] = true", ballast, n)
		case "css":
			w.Header().Set("Content-Type", "text/css")
			fmt.Fprintf(w, "/* %s */ :root { --told-%d: %d }", ballast, n, n)
		default:
			w.Header().Set("Content-Type", "image/svg+xml")
			fmt.Fprintf(w, "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='1'><!-- %s --></svg>", n, ballast)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

// A browser loads a page with many assets, each of them whole, whichever version of HTTP it speaks.
func TestABrowserLoadsAPage(t *testing.T) {
	for _, version := range []struct {
		name, protocol string
		flags          func(p *plant) []chromedp.ExecAllocatorOption
	}{
		{"HTTP/1.1", "http/1.1", func(*plant) []chromedp.ExecAllocatorOption {
			return []chromedp.ExecAllocatorOption{chromedp.Flag("disable-http2", true)}
		}},
		{"HTTP/2", "h2", func(*plant) []chromedp.ExecAllocatorOption { return nil }},
		{"HTTP/3", "h3", func(p *plant) []chromedp.ExecAllocatorOption {
			return []chromedp.ExecAllocatorOption{
				chromedp.Flag("disable-quic", false), chromedp.Flag("enable-quic", true),
				chromedp.Flag("origin-to-force-quic-on", fmt.Sprintf("localhost:%d", p.addr.Port())),
			}
		}},
	} {
		t.Run(version.name, func(t *testing.T) {
			srv, id := gallery(t), newIdentity(t, t.TempDir(), 1)
			p := startPlant(t, id.listener("")+routes3(srv))
			b := startBrowser(t, append(version.flags(p),
				chromedp.Flag("ignore-certificate-errors-spki-list", id.spki), chromedp.Flag("host-resolver-rules", "MAP localhost 127.0.0.1"))...)
			b.do("load the page", chromedp.Navigate(fmt.Sprintf("https://localhost:%d/", p.addr.Port())))
			missing := `[...Array(200).keys()].filter(i =>
				i % 3 == 0 ? !told[i] :
				i % 3 == 1 ? getComputedStyle(document.documentElement).getPropertyValue('--told-' + i) != i :
				document.querySelector('img[src="/asset/' + i + '.svg"]').naturalWidth != i)`
			b.until("every asset is there", missing+".length == 0")
			testkit.Eventually(t, "the browser has told of all of them", func() bool { return b.answered("200 GET https://") >= assets+1 })
			b.quiet()
			b.mu.Lock()
			defer b.mu.Unlock()
			if n := b.spoken[version.protocol]; n != assets+1 || len(b.spoken) > 2 { // and the icon, which is data
				t.Errorf("answers by protocol: %v", b.spoken)
			}
		})
	}
}

// A browser opens WebSockets of a page that came over HTTP/2 as streams of the page's connection (RFC 8441), whatever the server
// behind the gateway speaks: they work, and log and metrics tell of them, and by which version of HTTP they came.
func TestABrowserOpensWebSockets(t *testing.T) {
	for name, protocol := range map[string]string{"to HTTP/1.1": "http1.1", "to HTTP/2": "http2"} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			e, id := startWebSockets(t), newIdentity(t, t.TempDir(), 1)
			to := e.addr
			if protocol == "http2" {
				to = chatSite(t, e, "", "", "").at("test")
			}
			s := startSite(t, fmt.Sprintf(`
listeners: [{ name: test, address: '127.0.0.1:0', tls: { certificates: [{ cert: %q, key: %q }] } }]
upstreams: { app: { protocol: %s, targets: ['http://%s'] } }
routes:
  - { match: { path: / }, respond: { status: 200, headers: { Content-Type: text/html }, body: "<!doctype html><title>chat</title><link rel=icon href='data:,'>" } }
  - { match: { path_prefix: /chat }, upstream: app }
`, id.cert, id.key, protocol, to))
			b := startBrowser(t, chromedp.Flag("ignore-certificate-errors-spki-list", id.spki), chromedp.Flag("host-resolver-rules", "MAP localhost 127.0.0.1"))
			_, port, _ := strings.Cut(s.at("test"), ":")
			b.do("load the page", chromedp.Navigate("https://localhost:"+port+"/"))
			const many = 5
			got := eval[string](b, fmt.Sprintf(`await Promise.all([...Array(%d).keys()].map(i => new Promise((resolve, reject) => {
				const texts = ['hello ' + i, 'long '.repeat(20000), ''], c = new WebSocket('wss://' + location.host + '/chat/' + i, 'chat');
				let n = 0;
				c.onopen = () => c.send(texts[0]);
				c.onmessage = e => {
					if (e.data !== texts[n]) reject('message ' + n + ' comes back as ' + e.data.slice(0, 50));
					else if (++n < texts.length) c.send(texts[n]);
					else c.close(1000, 'bye');
				};
				c.onclose = e => resolve(c.protocol + ' ' + n + ' ' + e.code + ' ' + e.wasClean);
			}))).then(all => all.join(), e => String(e))`, many))
			if want := strings.TrimSuffix(strings.Repeat("chat 3 1000 true,", many), ","); got != want {
				t.Errorf("the page says %q; want %q", got, want)
			}
			testkit.Eventually(t, "all have ended", func() bool { return s.endedTunnels("client_closed", strconv.Itoa(many)) && s.tunnels("0") })
			chats, conns := 0, map[uint64]bool{}
			for _, l := range s.lines(many + 1) {
				if strings.HasPrefix(l.Path, "/chat/") {
					chats++
				}
				if conns[l.Conn] = true; l.Protocol != "HTTP/2.0" {
					t.Errorf("%+v", l)
				}
			}
			testkit.Eventually(t, "the servers have heard the end", func() bool { return e.closedWith(websocket.StatusNormalClosure) >= many })
			if chats != many || len(conns) != 1 || e.closedWith(websocket.StatusNormalClosure) != many {
				t.Errorf("%d lines of WebSockets, client connections %v; the servers' have ended with %v", chats, conns, e.closed)
			}
			b.quiet()
		})
	}
}
