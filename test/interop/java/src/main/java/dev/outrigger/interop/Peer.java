// SPDX-License-Identifier: Apache-2.0
// Entry point of the interop peer, all on real Aeron. `driver --dir D` runs a media driver (benchmarks use it); `serve` obeys requests on
// standard input, one a line, and answers each with a line of JSON: one process can be drivers and clients at once.
package dev.outrigger.interop;

import io.aeron.driver.MediaDriver;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

public final class Peer {
    private Peer() {
    }

    public static void main(final String[] args) throws Exception {
        switch (args.length == 0 ? "" : args[0]) {
            case "driver" -> driver(Options.ofCommandLine(args, 1));
            case "serve" -> new Server(System.in, System.out).run();
            default -> throw new IllegalArgumentException("usage: driver --dir D | serve");
        }
    }

    // Everything but the directory comes from aeron.* system properties, as for a stock driver.
    private static void driver(final Options options) throws InterruptedException {
        final MediaDriver.Context context = new MediaDriver.Context()
            .aeronDirectoryName(options.text("dir"))
            .dirDeleteOnStart(true)
            .dirDeleteOnShutdown(true);
        final CountDownLatch stop = new CountDownLatch(1);
        final CountDownLatch closed = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stop.countDown();
            try {
                closed.await(5, TimeUnit.SECONDS);
            } catch (final InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
        }));
        try (MediaDriver driver = MediaDriver.launch(context)) {
            System.out.println("{\"event\":\"ready\",\"dir\":\"" + driver.aeronDirectoryName() + "\"}");
            System.out.flush();
            stop.await();
        } finally {
            closed.countDown();
        }
    }
}
