// SPDX-License-Identifier: Apache-2.0
// Entry point of the interop peer: `driver`, `pub`, `sub`, `counters` or `selftest`, all on real Aeron. One JSON line says the result.
package dev.outrigger.interop;

import io.aeron.Aeron;
import io.aeron.ConcurrentPublication;
import io.aeron.ExclusivePublication;
import io.aeron.FragmentAssembler;
import io.aeron.Publication;
import io.aeron.Subscription;
import io.aeron.driver.MediaDriver;
import io.aeron.logbuffer.BufferClaim;
import io.aeron.logbuffer.FragmentHandler;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.agrona.concurrent.UnsafeBuffer;

public final class Peer {
    private Peer() {
    }

    public static void main(final String[] args) throws Exception {
        if (args.length == 0) {
            throw new IllegalArgumentException("usage: driver|pub|sub|counters|selftest --key value ...");
        }
        final Options options = new Options(args, 1);
        switch (args[0]) {
            case "driver" -> driver(options);
            case "pub" -> publish(options);
            case "sub" -> subscribe(options);
            case "counters" -> counters(options);
            case "selftest" -> SelfTest.run(options);
            default -> throw new IllegalArgumentException("unknown command " + args[0]);
        }
    }

    // Everything but the directory comes from aeron.* system properties, as for a stock driver.
    private static void driver(final Options options) throws InterruptedException {
        final MediaDriver.Context context = new MediaDriver.Context()
            .aeronDirectoryName(options.text("dir", null))
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

    static Aeron connect(final Options options) {
        return Aeron.connect(new Aeron.Context().aeronDirectoryName(options.text("dir", null)));
    }

    private static void publish(final Options options) throws Exception {
        final long count = options.number("count", 1000);
        final int size = (int) options.number("size", 64);
        final long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(options.number("timeout-ms", 30000));
        final String channel = options.text("channel", null);
        final int stream = (int) options.number("stream", 1001);
        try (Aeron aeron = connect(options)) {
            final boolean exclusive = options.flag("exclusive");
            final ExclusivePublication exclusivePublication = exclusive ? aeron.addExclusivePublication(channel, stream) : null;
            final ConcurrentPublication concurrentPublication = exclusive ? null : aeron.addPublication(channel, stream);
            final Publication publication = exclusive ? exclusivePublication : concurrentPublication;
            final UnsafeBuffer buffer = new UnsafeBuffer(new byte[size]);
            final BufferClaim claim = new BufferClaim();
            final boolean tryClaim = options.flag("try-claim");
            long sent = 0;
            while (sent < count) {
                final long result;
                if (tryClaim) {
                    result = publication.tryClaim(size, claim);
                    if (result > 0) {
                        Payload.fill(claim.buffer(), claim.offset(), size, sent);
                        claim.commit();
                    }
                } else {
                    Payload.fill(buffer, 0, size, sent);
                    result = publication.offer(buffer, 0, size);
                }
                if (result > 0) {
                    sent++;
                } else if (result == Publication.CLOSED || result == Publication.MAX_POSITION_EXCEEDED) {
                    throw new IllegalStateException("offer answered " + Publication.errorString(result));
                } else if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("sent " + sent + " of " + count + ", then " + Publication.errorString(result));
                } else {
                    Thread.onSpinWait();
                    Thread.yield();
                }
            }
            System.out.println("{\"sent\":" + sent + ",\"position\":" + publication.position() + ",\"sessionId\":" + publication.sessionId() + "}");
            System.out.flush();
            // Stay until the reader has it all: the harness ends the process by closing its standard input.
            while (System.in.read() >= 0) {
                Thread.onSpinWait();
            }
        }
    }

    private static void subscribe(final Options options) throws Exception {
        final long count = options.number("count", 1000);
        final long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(options.number("timeout-ms", 30000));
        try (Aeron aeron = connect(options);
            Subscription subscription = aeron.addSubscription(options.text("channel", null), (int) options.number("stream", 1001))) {
            System.out.println("{\"event\":\"subscribed\"}");
            System.out.flush();
            final long[] state = new long[3];
            final FragmentHandler handler = (buffer, offset, length, header) -> {
                final long sequence = Payload.sequence(buffer, offset);
                if (sequence != state[0]) {
                    state[1]++;
                }
                if (!Payload.matches(buffer, offset, length, sequence)) {
                    state[2]++;
                }
                state[0] = sequence + 1;
            };
            final FragmentAssembler assembler = new FragmentAssembler(handler);
            while (state[0] < count && System.nanoTime() < deadline) {
                if (subscription.poll(assembler, 64) == 0) {
                    Thread.onSpinWait();
                    Thread.yield();
                }
            }
            System.out.println("{\"received\":" + state[0] + ",\"outOfOrder\":" + state[1] + ",\"corrupt\":" + state[2] + "}");
            System.out.flush();
            if (state[0] != count || state[1] != 0 || state[2] != 0) {
                System.exit(1);
            }
        }
    }

    private static void counters(final Options options) {
        try (Aeron aeron = connect(options)) {
            aeron.countersReader().forEach((value, id, label) ->
                System.out.println("{\"id\":" + id + ",\"type\":" + aeron.countersReader().getCounterTypeId(id) + ",\"value\":" + value +
                    ",\"label\":\"" + label.replace("\\", "\\\\").replace("\"", "\\\"") + "\"}"));
        }
    }
}
