"""A mesh viewer for web pages: about 90 lines of WebGL 2, no library, works from file://.

Each `<canvas class="mesh" data-mesh="ID">` shows the mesh whose arrays lie in
`<script type="application/json" id="ID">{"vertices": base64 float32, "faces": ID of them}`;
faces are `{"faces": base64 uint32}`. IDs end in -mesh, or in -truth for what the checkbox shows.
One hidden WebGL canvas draws for all of them, because browsers allow only about sixteen contexts.
Frame of the vertices: metres, x right, y down, z away. Drag or arrow keys turn the mesh, a double
click resets it.
"""

VIEWER_JS = r"""
(() => {
  const vertexShader = `#version 300 es
    in vec3 position; in vec3 normal; uniform mat3 turn; uniform float zoom; out vec3 n;
    void main() {
      vec3 p = turn * position * zoom; n = turn * normal;
      gl_Position = vec4(p.x, -p.y, p.z * 0.5, 1.0);
    }`;
  const pixelShader = `#version 300 es
    precision highp float; in vec3 n; uniform vec3 albedo; out vec4 color;
    float lit(vec3 m, vec3 d) { return max(dot(m, normalize(d)), 0.0); }
    void main() {
      vec3 m = normalize(n); if (m.z > 0.0) m = -m;
      vec3 light = vec3(0.05, 0.055, 0.07)
        + vec3(0.98, 0.94, 0.88) * lit(m, vec3(-0.55, -0.75, -0.60))
        + vec3(0.15, 0.18, 0.23) * lit(m, vec3(0.85, -0.10, -0.50))
        + vec3(0.30, 0.33, 0.38) * lit(m, vec3(0.90, -0.30, 0.45))
        + vec3(0.16, 0.16, 0.18) * lit(m, vec3(-0.90, 0.20, 0.50));
      color = vec4(pow(clamp(albedo * light, 0.0, 1.0), vec3(1.0 / 2.2)), 1.0);
    }`;
  const canvases = [...document.querySelectorAll('canvas.mesh')];
  const screen = document.createElement('canvas');
  const gl = screen.getContext('webgl2', {antialias: true});
  if (!gl) {
    canvases.forEach(c => c.replaceWith('WebGL 2 is off in this browser: see the side view.'));
    return;
  }
  const program = gl.createProgram();
  for (const [kind, source] of [['VERTEX', vertexShader], ['FRAGMENT', pixelShader]]) {
    const shader = gl.createShader(gl[`${kind}_SHADER`]);
    gl.shaderSource(shader, source); gl.compileShader(shader); gl.attachShader(program, shader);
  }
  gl.linkProgram(program); gl.useProgram(program); gl.enable(gl.DEPTH_TEST);
  const uniform = name => gl.getUniformLocation(program, name);

  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer;
  const json = id => JSON.parse(document.getElementById(id).textContent);
  const triangles = {};
  const facesOf = id => triangles[id] ??= new Uint32Array(bytes(json(id).faces));

  function normalsOf(v, f) {
    const n = new Float32Array(v.length);
    for (let i = 0; i < f.length; i += 3) {
      const [a, b, c] = [3 * f[i], 3 * f[i + 1], 3 * f[i + 2]];
      const e = [0, 1, 2].map(k => v[b + k] - v[a + k]);
      const d = [0, 1, 2].map(k => v[c + k] - v[a + k]);
      for (let k = 0; k < 3; k++) {
        const x = e[(k + 1) % 3] * d[(k + 2) % 3] - e[(k + 2) % 3] * d[(k + 1) % 3];
        n[a + k] += x; n[b + k] += x; n[c + k] += x;
      }
    }
    return n;
  }

  function buffer(target, data) {
    const made = gl.createBuffer();
    gl.bindBuffer(target, made); gl.bufferData(target, data, gl.STATIC_DRAW);
    return made;
  }

  const meshes = {};
  function meshOf(id) {
    if (meshes[id]) return meshes[id];
    const data = json(id), v = new Float32Array(bytes(data.vertices)), f = facesOf(data.faces);
    let radius = 0;
    for (let k = 0; k < 3; k++) {
      let [low, high] = [Infinity, -Infinity];
      for (let i = k; i < v.length; i += 3) {
        low = Math.min(low, v[i]); high = Math.max(high, v[i]);
      }
      for (let i = k; i < v.length; i += 3) v[i] -= (low + high) / 2;
      radius = Math.max(radius, (high - low) / 2);
    }
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    for (const [name, values] of [['position', v], ['normal', normalsOf(v, f)]]) {
      const place = gl.getAttribLocation(program, name);
      buffer(gl.ARRAY_BUFFER, values);
      gl.enableVertexAttribArray(place); gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 0, 0);
    }
    buffer(gl.ELEMENT_ARRAY_BUFFER, f);
    return meshes[id] = {array, count: f.length, zoom: 0.86 / radius};
  }

  function draw(canvas) {
    const {yaw, pitch} = canvas.view, mesh = meshOf(canvas.dataset.mesh);
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    canvas.width = canvas.height = screen.width = screen.height =
      Math.round(canvas.clientWidth * Math.min(devicePixelRatio, 2)) || 300;
    gl.viewport(0, 0, screen.width, screen.height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const columns = [cy, sp * sy, -cp * sy, 0, cp, sp, sy, -sp * cy, cp * cy];
    const isTruth = canvas.dataset.mesh.endsWith('-truth');
    gl.uniformMatrix3fv(uniform('turn'), false, columns);
    gl.uniform1f(uniform('zoom'), mesh.zoom);
    gl.uniform3fv(uniform('albedo'), isTruth ? [0.80, 0.50, 0.22] : [0.30, 0.50, 0.84]);
    gl.bindVertexArray(mesh.array);
    gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
    canvas.getContext('2d').drawImage(screen, 0, 0);
  }

  const steps = {
    ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, -0.2], ArrowDown: [0, 0.2],
  };
  for (const canvas of canvases) {
    const turn = (x, y) => { canvas.view.yaw -= x; canvas.view.pitch += y; draw(canvas); };
    const reset = () => { canvas.view = {yaw: -0.5, pitch: 0.1}; draw(canvas); };
    canvas.addEventListener('pointerdown', e => canvas.setPointerCapture(e.pointerId));
    canvas.addEventListener('pointermove', e => {
      if (e.buttons) turn(e.movementX / 90, e.movementY / 90);
    });
    canvas.addEventListener('dblclick', reset);
    canvas.addEventListener('keydown', e => {
      if (steps[e.key]) { e.preventDefault(); turn(...steps[e.key]); }
    });
    canvas.parentElement.querySelector('input')?.addEventListener('change', e => {
      const [item] = canvas.dataset.mesh.split('-');
      canvas.dataset.mesh = item + (e.target.checked ? '-truth' : '-mesh');
      draw(canvas);
    });
    canvas.view = {yaw: -0.5, pitch: 0.1};
    new ResizeObserver(() => draw(canvas)).observe(canvas);
  }
})();
"""
