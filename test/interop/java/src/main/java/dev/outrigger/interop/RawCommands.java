// SPDX-License-Identifier: Apache-2.0
// Commands that no client library sends: about things that do not exist, of types that do not exist, cut short. Written into the driver's
// ring with Aeron's own classes, under a client id of their own; the answer is what the driver broadcasts.
package dev.outrigger.interop;

import io.aeron.CncFileDescriptor;
import io.aeron.DriverProxy;
import io.aeron.command.ControlProtocolEvents;
import io.aeron.command.ErrorResponseFlyweight;
import java.io.File;
import java.nio.MappedByteBuffer;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.agrona.DirectBuffer;
import org.agrona.IoUtil;
import org.agrona.concurrent.UnsafeBuffer;
import org.agrona.concurrent.broadcast.BroadcastReceiver;
import org.agrona.concurrent.broadcast.CopyBroadcastReceiver;
import org.agrona.concurrent.ringbuffer.ManyToOneRingBuffer;

final class RawCommands {
    private static final long NO_SUCH_ID = 0x7766554433221100L;

    private RawCommands() {
    }

    static Json send(final Options options) {
        final MappedByteBuffer file = IoUtil.mapExistingFile(new File(options.text("dir"), "cnc.dat"), "cnc.dat");
        try {
            final DirectBuffer meta = CncFileDescriptor.createMetaDataBuffer(file);
            final ManyToOneRingBuffer ring = new ManyToOneRingBuffer(CncFileDescriptor.createToDriverBuffer(file, meta));
            final CopyBroadcastReceiver answers =
                new CopyBroadcastReceiver(new BroadcastReceiver(CncFileDescriptor.createToClientsBuffer(file, meta)));
            // Opened before the command is sent; what was broadcast before is not for us.
            answers.receive((type, buffer, offset, length) -> { });
            final String what = options.text("what");
            final long correlationId = issue(what, ring, new DriverProxy(ring, ring.nextCorrelationId()));
            return correlationId == 0 ? new Json() : awaitError(what, correlationId, answers);
        } finally {
            IoUtil.unmap(file);
        }
    }

    private static long issue(final String what, final ManyToOneRingBuffer ring, final DriverProxy proxy) {
        switch (what) {
            case "remove-publication":
                return proxy.removePublication(NO_SUCH_ID, false);
            case "remove-subscription":
                return proxy.removeSubscription(NO_SUCH_ID);
            case "remove-counter":
                return proxy.removeCounter(NO_SUCH_ID);
            case "add-destination":
                return proxy.addDestination(NO_SUCH_ID, "aeron:udp?endpoint=localhost:9999");
            case "remove-destination":
                return proxy.removeDestination(NO_SUCH_ID, "aeron:udp?endpoint=localhost:9999");
            case "remove-destination-by-id":
                return proxy.removeDestination(NO_SUCH_ID, 5L);
            case "add-receive-destination":
                return proxy.addRcvDestination(NO_SUCH_ID, "aeron:udp?endpoint=localhost:9999");
            case "reject-image":
                return proxy.rejectImage(NO_SUCH_ID, 0, "no such image");
            case "unknown-type": {
                final UnsafeBuffer command = new UnsafeBuffer(new byte[64]);
                final long correlationId = ring.nextCorrelationId();
                command.putLong(0, ring.nextCorrelationId());
                command.putLong(8, correlationId);
                write(ring, 0x77, command, 64);
                return correlationId;
            }
            case "cut-short":
                // Too short to say who asks: nobody to answer.
                write(ring, ControlProtocolEvents.ADD_PUBLICATION, new UnsafeBuffer(new byte[8]), 8);
                return 0;
            case "length-beyond-the-end": {
                final UnsafeBuffer command = new UnsafeBuffer(new byte[64]);
                final long correlationId = ring.nextCorrelationId();
                command.putLong(0, ring.nextCorrelationId());
                command.putLong(8, correlationId);
                command.putInt(16, 5);
                command.putInt(20, Integer.MAX_VALUE);
                write(ring, ControlProtocolEvents.ADD_PUBLICATION, command, 64);
                return correlationId;
            }
            default:
                throw new IllegalArgumentException("unknown command " + what);
        }
    }

    private static void write(final ManyToOneRingBuffer ring, final int type, final DirectBuffer command, final int length) {
        if (!ring.write(type, command, 0, length)) {
            throw new IllegalStateException("the ring is full");
        }
    }

    private static Json awaitError(final String what, final long correlationId, final CopyBroadcastReceiver answers) {
        final Json[] found = new Json[1];
        final ErrorResponseFlyweight error = new ErrorResponseFlyweight();
        final long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(5);
        while (found[0] == null) {
            answers.receive((type, buffer, offset, length) -> {
                if (type == ControlProtocolEvents.ON_ERROR) {
                    error.wrap(buffer, offset);
                    if (error.offendingCommandCorrelationId() == correlationId) {
                        found[0] = new Json().put("code", error.errorCode().name()).put("message", error.errorMessage());
                    }
                } else if (type == ControlProtocolEvents.ON_OPERATION_SUCCESS && buffer.getLong(offset) == correlationId) {
                    found[0] = new Json().put("code", "OK").put("message", "");
                }
            });
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("no answer to " + what);
            }
            LockSupport.parkNanos(1_000_000);
        }
        return found[0];
    }
}
