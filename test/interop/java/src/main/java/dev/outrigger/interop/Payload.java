// SPDX-License-Identifier: Apache-2.0
// The message that every interop peer sends and checks: int64 sequence (little-endian), then bytes that follow from sequence and place.
package dev.outrigger.interop;

import java.nio.ByteOrder;
import org.agrona.DirectBuffer;
import org.agrona.MutableDirectBuffer;

final class Payload {
    static final int MIN_LENGTH = 8;

    private Payload() {
    }

    static void fill(final MutableDirectBuffer buffer, final int offset, final int length, final long sequence) {
        buffer.putLong(offset, sequence, ByteOrder.LITTLE_ENDIAN);
        for (int i = MIN_LENGTH; i < length; i++) {
            buffer.putByte(offset + i, expected(sequence, i));
        }
    }

    static long sequence(final DirectBuffer buffer, final int offset) {
        return buffer.getLong(offset, ByteOrder.LITTLE_ENDIAN);
    }

    static boolean matches(final DirectBuffer buffer, final int offset, final int length, final long sequence) {
        for (int i = MIN_LENGTH; i < length; i++) {
            if (buffer.getByte(offset + i) != expected(sequence, i)) {
                return false;
            }
        }
        return true;
    }

    private static byte expected(final long sequence, final int index) {
        return (byte) (sequence * 31 + index);
    }
}
