/** BT.709 luma of R, G and B. */
const [KR, KG, KB] = [0.2126, 0.7152, 0.0722];

/**
 * A frame in planar YUV 4:2:0: BT.709 in limited range (Rec. ITU-R BT.709-6, 3), chroma of each 2 x 2 pixels by their mean.
 *
 * @param rgb `[height, width, 3]`, 8-bit, both sides even
 * @returns Y `[height, width]`, then Cb and Cr `[height / 2, width / 2]`
 */
export function toYuv420(rgb: Uint8Array, height: number, width: number): Uint8Array {
  const pixels = height * width;
  const planes = new Uint8Array(pixels * 1.5);
  const y = 219 / 255;
  for (let i = 0, p = 0; i < pixels; i++, p += 3) {
    planes[i] = 16.5 + y * (KR * (rgb[p] as number) + KG * (rgb[p + 1] as number) + KB * (rgb[p + 2] as number));
  }
  const [cb, cr] = [112 / 255 / (1 - KB), 112 / 255 / (1 - KR)];
  const row = width * 3;
  let at = pixels;
  for (let top = 0; top < height; top += 2) {
    for (let p = top * row; p < (top + 1) * row; p += 6, at++) {
      const red = meanOfFour(rgb, p, row);
      const green = meanOfFour(rgb, p + 1, row);
      const blue = meanOfFour(rgb, p + 2, row);
      const luma = KR * red + KG * green + KB * blue;
      planes[at] = 128.5 + cb * (blue - luma);
      planes[at + pixels / 4] = 128.5 + cr * (red - luma);
    }
  }
  return planes;
}

/** Of a channel in 2 x 2 pixels. @param row bytes from one row to the next */
function meanOfFour(rgb: Uint8Array, p: number, row: number): number {
  const above = (rgb[p] as number) + (rgb[p + 3] as number);
  return (above + (rgb[p + row] as number) + (rgb[p + row + 3] as number)) / 4;
}
