// SPDX-License-Identifier: Apache-2.0
// One subscription of a serving peer: what arrived in each image, checked message by message, and how each image came and went.
package dev.outrigger.interop;

import io.aeron.Aeron;
import io.aeron.FragmentAssembler;
import io.aeron.Image;
import io.aeron.Subscription;
import io.aeron.logbuffer.Header;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.agrona.DirectBuffer;

final class Collector implements AutoCloseable {
    // One image; counted by the polling thread, read by the one that answers.
    static final class Seen {
        final Image image;
        volatile long count;
        volatile long bytes;
        volatile long first = -1;
        volatile long next;
        volatile long outOfOrder;
        volatile long corrupt;
        volatile long longest;
        volatile long reserved;
        volatile boolean ended;
        volatile long endPosition = -1;
        volatile boolean endOfStream;
        volatile boolean revoked;

        Seen(final Image image) {
            this.image = image;
        }

        Json json() {
            return new Json()
                .put("session", image.sessionId())
                .put("source", image.sourceIdentity())
                .put("joinPosition", image.joinPosition())
                .put("count", count)
                .put("bytes", bytes)
                .put("first", first)
                .put("next", next)
                .put("outOfOrder", outOfOrder)
                .put("corrupt", corrupt)
                .put("longest", longest)
                .put("reserved", Long.toString(reserved))
                .put("ended", ended)
                .put("endPosition", endPosition)
                .put("endOfStream", endOfStream)
                .put("revoked", revoked);
        }
    }

    final Subscription subscription;
    volatile boolean paused;
    // By object: an untethered subscription gets the image of one publication again after its rest, under the same correlation id.
    private final Map<Image, Seen> byImage = new ConcurrentHashMap<>();
    private final List<Seen> inOrder = new CopyOnWriteArrayList<>();
    private final FragmentAssembler assembler = new FragmentAssembler(this::onMessage);
    private volatile boolean closed;

    Collector(final Aeron aeron, final String channel, final int stream, final boolean paused) {
        this.paused = paused;
        subscription = aeron.addSubscription(channel, stream, this::onAvailable, this::onUnavailable);
    }

    // Polling thread only.
    synchronized int poll() {
        return paused || closed ? 0 : subscription.poll(assembler, 64);
    }

    long count() {
        return inOrder.stream().mapToLong(seen -> seen.count).sum();
    }

    long ended() {
        return inOrder.stream().filter(seen -> seen.ended).count();
    }

    long available() {
        return inOrder.stream().filter(seen -> !seen.ended).count();
    }

    List<Seen> seen() {
        return inOrder;
    }

    Json json() {
        final List<Json> images = new ArrayList<>();
        inOrder.forEach(seen -> images.add(seen.json()));
        return new Json()
            .put("count", count())
            .put("connected", subscription.isConnected())
            .put("status", subscription.channelStatus())
            .putTexts("addresses", subscription.localSocketAddresses())
            .put("images", images);
    }

    // An image can be polled before its handler has run.
    private Seen seen(final Image image) {
        return byImage.computeIfAbsent(image, key -> {
            final Seen seen = new Seen(image);
            inOrder.add(seen);
            return seen;
        });
    }

    private void onAvailable(final Image image) {
        seen(image);
    }

    private void onUnavailable(final Image image) {
        final Seen seen = seen(image);
        seen.endPosition = image.position();
        seen.endOfStream = image.isEndOfStream();
        seen.revoked = image.isPublicationRevoked();
        seen.ended = true;
    }

    private void onMessage(final DirectBuffer buffer, final int offset, final int length, final Header header) {
        final Seen seen = seen((Image) header.context());
        final long sequence = Payload.sequence(buffer, offset, length);
        if (seen.first < 0) {
            seen.first = sequence;
        } else if (sequence != seen.next) {
            seen.outOfOrder++;
        }
        if (!Payload.matches(buffer, offset, length, header.streamId(), sequence)) {
            seen.corrupt++;
        }
        seen.next = sequence + 1;
        seen.bytes += length;
        seen.longest = Math.max(seen.longest, length);
        seen.reserved = header.reservedValue();
        seen.count++;
    }

    @Override
    public void close() {
        synchronized (this) {
            closed = true;
        }
        subscription.close();
    }
}
