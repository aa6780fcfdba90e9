// SPDX-License-Identifier: Apache-2.0
// One publication of a serving peer: sends numbered messages of given sizes, by offer or tryClaim, and says what the publication answered.
package dev.outrigger.interop;

import io.aeron.Publication;
import io.aeron.logbuffer.BufferClaim;
import java.util.concurrent.TimeUnit;
import org.agrona.concurrent.BackoffIdleStrategy;
import org.agrona.concurrent.UnsafeBuffer;

final class Sender implements AutoCloseable {
    final Publication publication;
    private long next;

    Sender(final Publication publication) {
        this.publication = publication;
    }

    // `size`: a number, "max" (longest message), "payload" (longest unfragmented), "mix" (from the smallest to several fragments).
    synchronized Json send(final Options options) {
        final long count = options.number("count");
        final boolean claimed = options.flag("claim");
        final String size = options.text("size", "64");
        final long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(options.number("timeout-ms", 30000));
        final UnsafeBuffer buffer = new UnsafeBuffer(new byte[publication.maxMessageLength()]);
        final BufferClaim claim = new BufferClaim();
        final BackoffIdleStrategy idle = new BackoffIdleStrategy(10, 20, 1_000, 1_000_000);
        long sent = 0;
        long backPressured = 0;
        long notConnected = 0;
        long adminActions = 0;
        while (sent < count) {
            final int length = length(size, claimed);
            final long result;
            if (claimed) {
                result = publication.tryClaim(length, claim);
                if (result > 0) {
                    Payload.fill(claim.buffer(), claim.offset(), length, publication.streamId(), next);
                    claim.commit();
                }
            } else {
                Payload.fill(buffer, 0, length, publication.streamId(), next);
                result = publication.offer(buffer, 0, length);
            }
            if (result > 0) {
                sent++;
                next++;
                idle.reset();
                continue;
            }
            if (result == Publication.BACK_PRESSURED) {
                backPressured++;
            } else if (result == Publication.NOT_CONNECTED) {
                notConnected++;
            } else if (result == Publication.ADMIN_ACTION) {
                adminActions++;
                continue;
            } else {
                throw new IllegalStateException("after " + sent + " of " + count + ": " + Publication.errorString(result));
            }
            if (System.nanoTime() > deadline) {
                if (options.flag("partial")) {
                    break;
                }
                throw new IllegalStateException("after " + sent + " of " + count + ": " + Publication.errorString(result) + " at position " +
                    publication.position() + " of limit " + publication.positionLimit());
            }
            idle.idle();
        }
        return new Json()
            .put("sent", sent)
            .put("next", next)
            .put("backPressured", backPressured)
            .put("notConnected", notConnected)
            .put("adminActions", adminActions)
            .put("position", publication.position());
    }

    // One attempt at a message of `size` bytes: what the publication answers, by name.
    synchronized Json offerOnce(final Options options) {
        final int length = (int) options.number("size", 64);
        final UnsafeBuffer buffer = new UnsafeBuffer(new byte[length]);
        Payload.fill(buffer, 0, length, publication.streamId(), next);
        final long result = publication.offer(buffer, 0, length);
        if (result > 0) {
            next++;
        }
        return new Json().put("result", result).put("name", result > 0 ? "OK" : Publication.errorString(result));
    }

    // Leaves a claim neither committed nor aborted, as a publisher that dies there does.
    synchronized Json abandonClaim(final Options options) {
        final long result = publication.tryClaim((int) options.number("size", 64), new BufferClaim());
        return new Json().put("result", result);
    }

    Json json() {
        return new Json()
            .putWide("registrationId", publication.registrationId())
            .put("session", publication.sessionId())
            .put("maxMessage", publication.maxMessageLength())
            .put("maxPayload", publication.maxPayloadLength())
            .put("termLength", publication.termBufferLength())
            .put("position", publication.position())
            .put("limit", publication.positionLimit())
            .put("connected", publication.isConnected())
            .put("closed", publication.isClosed())
            .put("status", publication.channelStatus())
            .putTexts("addresses", publication.localSocketAddresses());
    }

    private int length(final String size, final boolean claimed) {
        switch (size) {
            case "max":
                return claimed ? publication.maxPayloadLength() : publication.maxMessageLength();
            case "payload":
                return publication.maxPayloadLength();
            case "mix": {
                // Mostly small, some of several fragments, all edges of a frame: every length follows from its sequence number.
                final long mixed = (next + 1) * 0x9E3779B97F4A7C15L >>> 33;
                final int most = claimed || mixed % 16 != 0 ? publication.maxPayloadLength() : publication.maxMessageLength() / 4;
                return Payload.MIN_LENGTH + (int) (mixed / 16 % (most - Payload.MIN_LENGTH + 1));
            }
            default:
                return Integer.parseInt(size);
        }
    }

    @Override
    public void close() {
        publication.close();
    }
}
