// SPDX-License-Identifier: Apache-2.0
// The message that every interop peer sends and checks: int64 sequence, int32 length, int32 stream (all little-endian), then 64-bit words that
// follow from sequence and place, so that a byte from another message or another place never fits. native/bench/interop_peer.cc has the same.
package dev.outrigger.interop;

import java.nio.ByteOrder;
import org.agrona.DirectBuffer;
import org.agrona.MutableDirectBuffer;

final class Payload {
    static final int MIN_LENGTH = 16;

    private Payload() {
    }

    static void fill(final MutableDirectBuffer buffer, final int offset, final int length, final int stream, final long sequence) {
        buffer.putLong(offset, sequence, ByteOrder.LITTLE_ENDIAN);
        buffer.putInt(offset + 8, length, ByteOrder.LITTLE_ENDIAN);
        buffer.putInt(offset + 12, stream, ByteOrder.LITTLE_ENDIAN);
        int at = MIN_LENGTH;
        for (; at + 8 <= length; at += 8) {
            buffer.putLong(offset + at, word(sequence, at), ByteOrder.LITTLE_ENDIAN);
        }
        for (; at < length; at++) {
            buffer.putByte(offset + at, tail(sequence, at));
        }
    }

    static long sequence(final DirectBuffer buffer, final int offset, final int length) {
        return length < MIN_LENGTH ? -1 : buffer.getLong(offset, ByteOrder.LITTLE_ENDIAN);
    }

    static boolean matches(final DirectBuffer buffer, final int offset, final int length, final int stream, final long sequence) {
        if (length < MIN_LENGTH || buffer.getInt(offset + 8, ByteOrder.LITTLE_ENDIAN) != length ||
            buffer.getInt(offset + 12, ByteOrder.LITTLE_ENDIAN) != stream) {
            return false;
        }
        int at = MIN_LENGTH;
        for (; at + 8 <= length; at += 8) {
            if (buffer.getLong(offset + at, ByteOrder.LITTLE_ENDIAN) != word(sequence, at)) {
                return false;
            }
        }
        for (; at < length; at++) {
            if (buffer.getByte(offset + at) != tail(sequence, at)) {
                return false;
            }
        }
        return true;
    }

    private static long word(final long sequence, final int at) {
        return (sequence * 0x9E3779B97F4A7C15L + at) * 0xBF58476D1CE4E5B9L;
    }

    private static byte tail(final long sequence, final int at) {
        return (byte) (sequence * 31 + at);
    }
}
