// SPDX-License-Identifier: Apache-2.0
// An unmodified Java client exercises one driver directory end to end: publications of both kinds, tryClaim, IPC, spy, fragmented messages up to
// the maximum, counters, destinations, refusals. One JSON line a check; exit status 1 when any failed.
package dev.outrigger.interop;

import io.aeron.Aeron;
import io.aeron.ChannelUriStringBuilder;
import io.aeron.Counter;
import io.aeron.ExclusivePublication;
import io.aeron.FragmentAssembler;
import io.aeron.Publication;
import io.aeron.Subscription;
import io.aeron.exceptions.RegistrationException;
import io.aeron.logbuffer.BufferClaim;
import java.util.concurrent.TimeUnit;
import org.agrona.concurrent.UnsafeBuffer;

final class SelfTest {
    private static final long STEP_TIMEOUT_NS = TimeUnit.SECONDS.toNanos(20);
    private static int failures = 0;

    private SelfTest() {
    }

    interface Step {
        void run() throws Exception;
    }

    static void run(final Options options) {
        final String host = options.text("host", "localhost");
        final int port = (int) options.number("port", 24500);
        try (Aeron aeron = Peer.connect(options)) {
            final String udp = "aeron:udp?term-length=256k|endpoint=" + host + ":";
            check("ipc concurrent publication", () -> roundTrip(aeron, "aeron:ipc?term-length=256k", 1, false, false, 500, 300));
            check("ipc exclusive publication", () -> roundTrip(aeron, "aeron:ipc?term-length=256k", 2, true, false, 500, 300));
            check("ipc tryClaim", () -> roundTrip(aeron, "aeron:ipc?term-length=256k", 3, true, true, 500, 300));
            check("udp concurrent publication", () -> roundTrip(aeron, udp + port, 4, false, false, 2000, 300));
            check("udp exclusive publication", () -> roundTrip(aeron, udp + port, 5, true, false, 2000, 1344));
            check("udp tryClaim", () -> roundTrip(aeron, udp + port, 6, false, true, 2000, 1000));
            check("udp fragmented to the maximum", () -> roundTrip(aeron, udp + port, 7, true, false, 50, -1));
            check("ipc fragmented to the maximum", () -> roundTrip(aeron, "aeron:ipc?term-length=256k", 8, false, false, 50, -1));
            check("many terms", () -> roundTrip(aeron, "aeron:udp?term-length=64k|endpoint=" + host + ":" + port, 9, false, false, 3000, 700));
            check("spy subscription", () -> spy(aeron, udp + (port + 1)));
            check("manual multi-destination", () -> manualDestinations(aeron, host, port + 2));
            check("dynamic multi-destination", () -> dynamicDestinations(aeron, host, port + 5));
            check("counters", () -> counters(aeron));
            check("refusals", () -> refusals(aeron, host));
            check("sessions come and go", () -> {
                for (int i = 0; i < 3; i++) {
                    roundTrip(aeron, udp + port, 10, false, false, 200, 64);
                }
            });
        }
        System.exit(failures == 0 ? 0 : 1);
    }

    private static void check(final String name, final Step step) {
        String error = null;
        try {
            step.run();
        } catch (final Throwable t) {
            error = t.toString();
            failures++;
        }
        System.out.println("{\"check\":\"" + name + "\",\"ok\":" + (error == null) +
            (error == null ? "" : ",\"error\":\"" + error.replace("\\", "\\\\").replace("\"", "'").replace("\n", " ") + "\"") + "}");
        System.out.flush();
    }

    private static void roundTrip(
        final Aeron aeron, final String channel, final int stream, final boolean exclusive, final boolean tryClaim, final int count,
        final int wantedSize) {
        try (Subscription subscription = aeron.addSubscription(channel, stream);
            Publication publication = exclusive ? aeron.addExclusivePublication(channel, stream) : aeron.addPublication(channel, stream)) {
            final int size = wantedSize > 0 ? wantedSize : publication.maxMessageLength();
            exchange(publication, new Subscription[] {subscription}, count, size, tryClaim);
            await("position moves past what was sent", () -> publication.position() >= (long) count * size);
        }
    }

    private static void exchange(
        final Publication publication, final Subscription[] subscriptions, final int count, final int size, final boolean tryClaim) {
        final long deadline = System.nanoTime() + STEP_TIMEOUT_NS;
        for (final Subscription subscription : subscriptions) {
            await("image", subscription::isConnected);
        }
        await("connection", publication::isConnected);
        final UnsafeBuffer buffer = new UnsafeBuffer(new byte[size]);
        final BufferClaim claim = new BufferClaim();
        final long[] received = new long[subscriptions.length];
        final FragmentAssembler[] assemblers = new FragmentAssembler[subscriptions.length];
        for (int i = 0; i < subscriptions.length; i++) {
            final int index = i;
            assemblers[i] = new FragmentAssembler((b, offset, length, header) -> {
                final long sequence = Payload.sequence(b, offset);
                if (sequence != received[index] || length != size || !Payload.matches(b, offset, length, sequence)) {
                    throw new IllegalStateException("subscription " + index + ": expected " + received[index] + " of " + size +
                        " bytes, got " + sequence + " of " + length);
                }
                received[index]++;
            });
        }
        long sent = 0;
        while (true) {
            if (sent < count) {
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
                    throw new IllegalStateException(Publication.errorString(result));
                }
            }
            boolean complete = sent == count;
            for (int i = 0; i < subscriptions.length; i++) {
                subscriptions[i].poll(assemblers[i], 32);
                complete &= received[i] == count;
            }
            if (complete) {
                return;
            }
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("sent " + sent + ", received " + java.util.Arrays.toString(received) + " of " + count);
            }
            Thread.yield();
        }
    }

    private static void spy(final Aeron aeron, final String channel) {
        try (Subscription remote = aeron.addSubscription(channel, 20);
            Publication publication = aeron.addPublication(channel, 20);
            Subscription spy = aeron.addSubscription("aeron-spy:" + channel, 20)) {
            exchange(publication, new Subscription[] {remote, spy}, 1000, 200, false);
        }
        try (Subscription spy = aeron.addSubscription("aeron-spy:" + channel, 21);
            Publication publication = aeron.addPublication(channel + "|ssc=true", 21)) {
            exchange(publication, new Subscription[] {spy}, 1000, 200, false);
        }
    }

    private static void manualDestinations(final Aeron aeron, final String host, final int port) {
        final String first = "aeron:udp?endpoint=" + host + ":" + port;
        final String second = "aeron:udp?endpoint=" + host + ":" + (port + 1);
        try (Subscription a = aeron.addSubscription(first, 30);
            Subscription b = aeron.addSubscription(second, 30);
            Publication publication = aeron.addPublication("aeron:udp?control-mode=manual|term-length=256k|fc=min", 30)) {
            publication.addDestination(first);
            publication.addDestination(second);
            exchange(publication, new Subscription[] {a, b}, 1000, 300, false);
            publication.removeDestination(second);
        }
    }

    private static void dynamicDestinations(final Aeron aeron, final String host, final int port) {
        final String control = host + ":" + port;
        try (Publication publication =
            aeron.addPublication("aeron:udp?control-mode=dynamic|control=" + control + "|term-length=256k|fc=min", 31);
            Subscription a = aeron.addSubscription("aeron:udp?endpoint=" + host + ":" + (port + 1) + "|control=" + control, 31);
            Subscription b = aeron.addSubscription("aeron:udp?endpoint=" + host + ":" + (port + 2) + "|control=" + control, 31)) {
            exchange(publication, new Subscription[] {a, b}, 1000, 300, false);
        }
    }

    private static void counters(final Aeron aeron) {
        final long[] seen = new long[2];
        aeron.countersReader().forEach((value, id, label) -> {
            if (aeron.countersReader().getCounterTypeId(id) == 0) {
                seen[0]++;
            }
            if (aeron.countersReader().getCounterTypeId(id) == 11 && aeron.countersReader().getCounterRegistrationId(id) == aeron.clientId()) {
                seen[1]++;
            }
        });
        if (seen[0] < 46 || seen[1] != 1) {
            throw new IllegalStateException(seen[0] + " system counters, " + seen[1] + " heartbeat counters of this client");
        }
        try (Counter counter = aeron.addCounter(1234, "a test counter")) {
            counter.setRelease(42);
            final String label = aeron.countersReader().getCounterLabel(counter.id());
            if (aeron.countersReader().getCounterValue(counter.id()) != 42 || !"a test counter".equals(label)) {
                throw new IllegalStateException("counter reads back as '" + label + "'");
            }
        }
    }

    private static void refusals(final Aeron aeron, final String host) {
        refused(() -> aeron.addPublication("aeron:udp?endpoint=" + host + ":24599|term-length=100000", 40).close());
        refused(() -> aeron.addPublication("aeron:udp?endpoint=" + host + ":24599|mtu=1409", 40).close());
        refused(() -> aeron.addPublication("aeron:udp?endpoint=no.such.host.invalid:1", 40).close());
        refused(() -> aeron.addSubscription("aeron:udp?no-endpoint=1", 40).close());
        final String uri = new ChannelUriStringBuilder().media("udp").endpoint(host + ":24598").sessionId(7777).build();
        try (ExclusivePublication first = aeron.addExclusivePublication(uri, 41)) {
            refused(() -> aeron.addExclusivePublication(uri, 41).close());
            if (first.isClosed()) {
                throw new IllegalStateException("a refusal closed another publication");
            }
        }
    }

    private static void refused(final Runnable action) {
        try {
            action.run();
        } catch (final RegistrationException expected) {
            if (expected.getMessage() == null || expected.getMessage().isBlank()) {
                throw new IllegalStateException("refused without a reason");
            }
            return;
        }
        throw new IllegalStateException("was accepted");
    }

    private static void await(final String what, final java.util.function.BooleanSupplier condition) {
        final long deadline = System.nanoTime() + STEP_TIMEOUT_NS;
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("no " + what);
            }
            Thread.yield();
        }
    }
}
