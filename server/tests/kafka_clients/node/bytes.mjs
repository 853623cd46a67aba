// Bytes in and out of the driver's lines.

export const packed = buffer => (buffer == null ? null : Buffer.from(buffer).toString('base64'))

export const unpacked = text => (text == null ? null : Buffer.from(text, 'base64'))
